import dgram from 'node:dgram';
import net from 'node:net';

export type DnsRecord = { type: 'A' | 'AAAA' | 'CNAME'; data: string; name?: string; rdata?: Buffer };
/** The answer to one query. Without `rcode` and `records` it means "no error, nothing found". */
export type DnsAnswer = {
  rcode?: number;
  records?: DnsRecord[];
  additional?: DnsRecord[];
  /** The number of answers that the header claims. */
  claimed?: number;
  hang?: boolean;
  delayMs?: number;
  /** Sets the bit TC and has no answer. */
  truncate?: boolean;
  close?: boolean;
  raw?: Buffer;
  wrongId?: boolean;
  wrongQuestion?: boolean;
};
export type DnsQuery = { name: string; type: 'A' | 'AAAA'; transport: 'udp' | 'tcp'; nth: number };

const codes = { A: 1, CNAME: 5, AAAA: 28 };

function encodeName(name: string): Buffer {
  const labels = name.split('.').filter(label => label !== '');
  return Buffer.concat([...labels.map(label => Buffer.from([label.length, ...Buffer.from(label)])), Buffer.from([0])]);
}

function encodeAddress(address: string): Buffer {
  if (net.isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  const url = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = url.split('::');
  const [left, right] = [head, tail ?? ''].map(part => part.split(':').filter(group => group !== ''));
  const zeros = Array(8 - left!.length - right!.length).fill('0');
  return Buffer.from(
    [...left!, ...(tail === undefined ? [] : zeros), ...right!].map(g => g.padStart(4, '0')).join(''),
    'hex',
  );
}

function encodeRecord(record: DnsRecord, question: string): Buffer {
  const data = record.rdata ?? (record.type === 'CNAME' ? encodeName(record.data) : encodeAddress(record.data));
  // The name in the question is at offset 12 of every message.
  const name =
    record.name === undefined || record.name === question ? Buffer.from([0xc0, 12]) : encodeName(record.name);
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(codes[record.type], 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(1, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([name, fixed, data]);
}

/** A DNS server on 127.0.0.1 that answers by UDP and TCP on one free port, as `answer` says. */
export async function startFakeDns(answer: (query: DnsQuery) => DnsAnswer) {
  const asked = new Map<string, number>();
  const sockets = new Set<net.Socket>();
  let closed = false;

  function respond(query: Buffer, transport: 'udp' | 'tcp', send: (message: Buffer | null) => void): void {
    const labels: string[] = [];
    let at = 12;
    while (query[at] !== 0) {
      labels.push(query.subarray(at + 1, at + 1 + query[at]!).toString('latin1'));
      at += query[at]! + 1;
    }
    const asName = labels.join('.');
    const name = asName.toLowerCase();
    const type = query.readUInt16BE(at + 1) === codes.AAAA ? 'AAAA' : 'A';
    const key = `${name} ${type} ${transport}`;
    const nth = (asked.get(key) ?? 0) + 1;
    asked.set(key, nth);
    const said = answer({ name, type, transport, nth });
    if (said.hang) return;
    if (said.close) {
      send(null);
      return;
    }
    let message = said.raw;
    if (message === undefined) {
      const records = (said.records ?? []).map(record => encodeRecord(record, asName));
      const additional = (said.additional ?? []).map(record => encodeRecord(record, asName));
      const header = Buffer.from(query.subarray(0, 12));
      const build = (truncated: boolean) => {
        header.writeUInt16BE(0x8180 | (truncated ? 0x0200 : 0) | (said.rcode ?? 0), 2);
        header.writeUInt16BE(truncated ? 0 : (said.claimed ?? records.length), 6);
        header.writeUInt16BE(0, 8);
        header.writeUInt16BE(truncated ? 0 : additional.length, 10);
        if (said.wrongId) header.writeUInt16BE(query.readUInt16BE(0) ^ 0x5555, 0);
        const question = Buffer.from(query.subarray(12, at + 5));
        if (said.wrongQuestion) question[1] = question[1]! ^ 1;
        return Buffer.concat([header, question, ...(truncated ? [] : [...records, ...additional])]);
      };
      message = build(said.truncate === true && transport === 'udp');
      if (transport === 'udp' && message.length > 512) message = build(true);
    }
    const ready = message.subarray(0, 65_535);
    if (said.delayMs === undefined) send(ready);
    else setTimeout(() => send(ready), said.delayMs).unref();
  }

  const tcp = net.createServer(socket => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let pending = Buffer.alloc(0);
    socket.on('data', data => {
      pending = Buffer.concat([pending, data]);
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const length = pending.readUInt16BE(0);
        respond(pending.subarray(2, 2 + length), 'tcp', message => {
          if (message === null) return socket.destroy();
          const prefix = Buffer.alloc(2);
          prefix.writeUInt16BE(message.length);
          if (!socket.destroyed) socket.write(Buffer.concat([prefix, message]));
        });
        pending = pending.subarray(2 + length);
      }
    });
  });
  await new Promise<void>(resolve => tcp.listen(0, '127.0.0.1', resolve));
  const { port } = tcp.address() as net.AddressInfo;
  const udp = dgram.createSocket('udp4');
  udp.on('message', (query, from) =>
    respond(query, 'udp', message => {
      if (message !== null && !closed) udp.send(message, from.port, from.address, () => {});
    }),
  );
  await new Promise<void>(resolve => udp.bind(port, '127.0.0.1', resolve));

  return {
    address: `127.0.0.1:${port}`,
    /** How often a name was queried, over both types and both transports. */
    asked: (name: string) => [...asked].reduce((sum, [key, n]) => sum + (key.startsWith(`${name} `) ? n : 0), 0),
    async close() {
      closed = true;
      for (const socket of sockets) socket.destroy();
      await Promise.all([new Promise(resolve => tcp.close(resolve)), new Promise<void>(resolve => udp.close(resolve))]);
    },
  };
}
