import net from 'node:net';
import type { Test } from 'tap';

/** A proxy to the server whose connections can be cut, or left open without passing data. */
export async function startProxy(t: Pick<Test, 'teardown'>, serverPort: number) {
  const sockets = new Set<net.Socket>();
  let state: 'open' | 'cut' | 'silent' = 'open';
  let upstreamPort = serverPort;
  const proxy = net.createServer(client => {
    if (state === 'cut') return client.destroy();
    const upstream = net.connect(upstreamPort, '127.0.0.1');
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one
        .on('data', chunk => other.write(chunk))
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(one);
          other.destroy();
        });
      if (state === 'silent') one.pause();
    }
  });
  await new Promise<void>(done => proxy.listen(0, '127.0.0.1', done));
  const set = (next: typeof state) => {
    state = next;
    for (const socket of sockets) {
      if (state === 'cut') socket.destroy();
      else if (state === 'silent') socket.pause();
      else socket.resume();
    }
  };
  /** New connections go to another server. */
  const lead = (port: number) => {
    upstreamPort = port;
  };
  t.teardown(() => {
    set('cut');
    proxy.close();
  });
  const { port } = proxy.address() as net.AddressInfo;
  return { set, lead, through: (url: string) => url.replace(`:${serverPort}/`, `:${port}/`) };
}
