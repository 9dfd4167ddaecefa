import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { createKeyring } from '../secrets/keyring.ts';
import { type Payload, readPayload } from './payload.ts';
import { type Sender, type SenderKey, senderKey, senderRow } from './senders.ts';

/** An inbound endpoint, read from the database and prepared for use. */
export type InboundEndpoint = {
  id: string;
  /** The statement that calls accept_inbound_<n>, as a template, because a name in it cannot be a parameter. */
  acceptCall: TemplateStringsArray;
  /** The path of each mapped column. */
  paths: Record<string, string | null>;
  /** Whether a payload makes several records. */
  isBatch: boolean;
  /** Whether an element of a batch that cannot be written does not affect the others. */
  eachAlone: boolean;
  sender: Sender;
  /** The sender's signatures that are accepted; null if no signature is required. */
  signatures: Sender['signatures'] | null;
  keys: SenderKey[];
  maxBodyBytes: number;
  rateLimit: number;
  /** The events that become records. Null: all except those that the sender's row ignores. */
  events: string[] | null;
  /** How long a body's digest is stored. Null: as long as the signature requires. */
  digestSeconds: number | null;
  /** Whether several requests may be written in one transaction. */
  grouped: boolean;
  /** Requests that wait until the previous group is written. */
  queue: Ordinary[];
  /** When, by `now`, writing of the current group began; null if none is being written. */
  writingSince: number | null;
  /** Until when, by `now`, the rate budget is used up. Until then the database is not asked. */
  usedUpUntil: number;
};

const endpointRow = z.object({
  id: z.string(),
  functionNumber: z.number(),
  paths: z.record(z.string(), z.string().nullable()),
  isBatch: z.boolean(),
  eachAlone: z.boolean(),
  secrets: z.array(z.string()),
  requireSignature: z.enum(['false', 'true', 'standard']),
  maxBodyBytes: z.number(),
  rateLimit: z.number(),
  events: z.array(z.string()).nullable(),
  digestSeconds: z.number().nullable(),
  grouped: z.boolean(),
  sender: senderRow,
});
function acceptCall(functionNumber: number): TemplateStringsArray {
  const parts = [
    `select collecta.accept_inbound_${functionNumber}(`,
    '::text[],',
    '::text[],',
    '::text[],',
    '::text[]) as ids',
  ];
  return Object.assign(parts, { raw: parts });
}

const outcomeRow = z.object({
  status: z.literal([202, 404, 422, 429, 503]).nullable(),
  record_id: z.string().nullable(),
  results: z.string().nullable(),
  kept_as: z.string().nullable(),
  reason: z.string().nullable(),
  column_name: z.string().nullable(),
  retry_after: z.number().nullable(),
});
// Each schema is made once: making one takes zod longer than parsing a row with it.
const outcomeRows = z.array(outcomeRow);
const idRows = z.array(z.object({ ids: z.array(z.string()).nullable() }));
const foundRows = z.array(z.object({ endpoint: z.string().nullable() }));
const goneRows = z.array(z.object({ gone: z.number() }));
const retryRows = z.array(
  z.object({
    request_id: z.string(),
    inbound_endpoint_id: z.string(),
    body: z.string(),
  }),
);

/** The answer of `collecta.receive_inbound`. `status` is null for a retry that another process has run. */
export type Outcome = z.infer<typeof outcomeRow>;

/** The database does not answer now, or did not answer in time. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

export type ReceiverOptions = {
  sql: Query;
  log: Log;
  now?: () => number;
  /** The number of connections of the pool. At most so many calls are sent at once. */
  connections?: number;
  /** The longest wait for one call: half of it for a connection, and half for the answer. */
  deadlineMs?: number;
  /** How many requests may wait for a connection. Further ones are refused with Unavailable. */
  maxWaiting?: number;
  /** COLLECTA_SECRET_KEY, if secrets are sealed. */
  secretKey?: string | undefined;
  /** How long an endpoint is cached. A notification ends this earlier. */
  maxAgeMs?: number;
};

/**
 * SQLSTATEs after which the sender should try again. 08 and the driver's own codes: no connection. 40 and 55P03: a
 * conflict with other sessions. 25006: a standby. 53, 57 and 58: the server lacks resources.
 */
const temporary = /^(08|40|53|57|58|25006|55P03|E[A-Z_]+$|CONNECT)/;
const maxTries = 3;
const maxCached = 1000;

/** A request that makes one record and needs nothing special; its id is undefined where it does after all. */
type Ordinary = {
  text: string;
  keyHash: string | null;
  bodyDigest: string | null;
  checkDigest: boolean;
  resolve: (recordId: string | undefined) => void;
  reject: (error: unknown) => void;
};

/** The most requests, and the most characters, that are written in one transaction. */
const maxGroup = 32;
const maxGroupLength = 1024 * 1024;
/** If writing a group takes longer, it probably waits for a lock. Then the next group does not wait for it. */
const patienceMs = 50;

/** What identifies a repetition of a request. Hashes are SHA-256 in hexadecimal. */
export type Repetition = {
  keyHash: string | null;
  sameBody: boolean;
  bodyDigest: string | null;
  /**
   * Whether a request with the same digest counts as a repetition. Otherwise the digest is only stored for later ones.
   */
  checkDigest: boolean;
};

const accepted = (recordId: string): Outcome => ({
  status: 202,
  record_id: recordId,
  results: null,
  kept_as: null,
  reason: null,
  column_name: null,
  retry_after: null,
});

/** Takes the first requests of a queue that can be written together. A repetition waits for the request it repeats. */
function takeGroup({ grouped, queue }: InboundEndpoint): Ordinary[] {
  const seen = new Set<string>();
  let length = 0;
  let size = 0;
  for (const { text, keyHash, bodyDigest } of queue) {
    const hashes = [keyHash, bodyDigest].filter(hash => hash !== null);
    length += text.length;
    if (size > 0 && (!grouped || size === maxGroup || length > maxGroupLength || hashes.some(hash => seen.has(hash))))
      break;
    for (const hash of hashes) seen.add(hash);
    size++;
  }
  return queue.splice(0, size);
}

/**
 * Calls the database for inbound. It caches endpoints, makes one call per request, runs stored requests again, and
 * counts refusals.
 */
export function createReceiver({
  sql,
  log,
  now = Date.now,
  connections = 10,
  deadlineMs = 10_000,
  maxWaiting = 500,
  maxAgeMs = 10_000,
  secretKey,
}: ReceiverOptions) {
  const keyring = createKeyring(secretKey);
  const cache = new Map<string, { endpoint: InboundEndpoint; until: number }>();
  const refusals = new Map<string, { inbound_endpoint_id: string; status: number; requests: number }>();
  const waiting = new Set<() => void>();
  let free = connections;

  /** Resolves when it is this request's turn to use a connection. Throws Unavailable if that takes too long. */
  async function takeConnection(): Promise<void> {
    if (free > 0) {
      free--;
      return;
    }
    if (waiting.size >= maxWaiting) throw new Unavailable('too many requests wait for the database');
    await new Promise<void>((resolve, reject) => {
      const resume = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        waiting.delete(resume);
        reject(new Unavailable('no connection came free'));
      }, deadlineMs / 2);
      waiting.add(resume);
    });
  }

  function giveConnection(): void {
    const [next] = waiting;
    if (next && waiting.delete(next)) next();
    else free++;
  }

  /**
   * Runs one query within the deadline. A query that got no connection in time is not sent. A query that was sent is
   * ended by the database, which limits its waits for locks. So nothing is written after an answer of 503, unless the
   * server hangs.
   */
  async function ask<T>(query: () => PromiseLike<Iterable<unknown>>, rows: z.ZodType<T>): Promise<T> {
    await takeConnection();
    let timer: NodeJS.Timeout | undefined;
    const answered = Promise.resolve(query()).finally(giveConnection);
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Unavailable('no answer')), deadlineMs / 2);
    });
    try {
      return rows.parse([...(await Promise.race([answered, tooLate]))]);
    } catch (error) {
      const { code = '' } = error as { code?: string };
      throw temporary.test(code) ? Object.assign(new Unavailable(code), { code }) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The active endpoint for a slug and the SHA-256 of a token in hexadecimal. Only endpoints that exist are cached. */
  async function find(slug: string, tokenHash: string): Promise<InboundEndpoint | undefined> {
    const key = `${slug}/${tokenHash}`;
    const cached = cache.get(key);
    if (cached && cached.until > now()) return cached.endpoint;
    cache.delete(key);
    const [found] = await ask(
      () => sql`select collecta.find_inbound_endpoint(${slug}, ${tokenHash})::text as endpoint`,
      foundRows,
    );
    if (!found?.endpoint) return undefined;
    const row = endpointRow.parse(JSON.parse(found.endpoint));
    const { functionNumber, secrets: _, requireSignature, ...rest } = row;
    const { id, sender } = rest;
    const keys = openSecrets(row);
    const standard = sender.signatures.filter(scheme => scheme.id !== undefined && scheme.timestamp !== undefined);
    const before = cached?.endpoint.id === id ? cached.endpoint : undefined;
    const endpoint: InboundEndpoint = {
      ...rest,
      acceptCall: acceptCall(functionNumber),
      signatures:
        requireSignature === 'standard'
          ? standard
          : requireSignature === 'true' || keys.length > 0
            ? sender.signatures
            : null,
      keys,
      queue: [],
      writingSince: null,
      usedUpUntil: before?.usedUpUntil ?? 0,
    };
    if (cache.size >= maxCached) cache.delete(cache.keys().next().value!);
    cache.set(key, { endpoint, until: now() + maxAgeMs });
    return endpoint;
  }

  function openSecrets({ id, secrets, sender }: z.infer<typeof endpointRow>): SenderKey[] {
    try {
      return secrets.map(secret => senderKey(keyring.open(secret, id), sender));
    } catch (error) {
      log.error('inbound cannot open a secret', { inbound_endpoint_id: id, reason: (error as Error).message });
      throw new Unavailable('a secret cannot be opened');
    }
  }

  type Call = {
    endpointId: string;
    payload: Payload;
    repetition?: Repetition;
    ignored?: boolean;
    requestId: string | null;
  };

  /**
   * Runs one transaction: rate budget, idempotency key, record and stored request. After a deadlock it tries again; if
   * that fails too, the request is stored as failed. Throws Unavailable.
   */
  async function write(call: Call): Promise<Outcome> {
    const { endpointId, payload, repetition, ignored = false, requestId } = call;
    const { keyHash = null, sameBody = false, bodyDigest = null, checkDigest = true } = repetition ?? {};
    const problem = payload.ok || ignored ? null : payload.reason;
    for (let attempt = 1; ; attempt++) {
      try {
        const [outcome] = await ask(
          () => sql`select status, record_id, results::text, kept_as, reason, column_name, retry_after
              from collecta.receive_inbound(${endpointId}, ${payload.text}, ${keyHash}, ${sameBody}, ${bodyDigest},
                ${ignored}, ${problem}, ${requestId}, ${attempt === maxTries}, ${checkDigest})`,
          outcomeRows,
        );
        return outcome!;
      } catch (error) {
        // 23505: if the default is REPEATABLE READ, only the unique index sees that a key is repeated.
        if (attempt >= maxTries || !/^(40|23505)/.test((error as { code?: string }).code ?? '')) throw error;
        await pause(Math.random() * 20 * 2 ** attempt);
      }
    }
  }

  /**
   * Writes an ordinary request in a group with others of its endpoint. The record's id; undefined if it is not
   * ordinary.
   */
  function accept(
    endpoint: InboundEndpoint,
    request: Omit<Ordinary, 'resolve' | 'reject'>,
  ): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      endpoint.queue.push({ ...request, resolve, reject });
      const { grouped, writingSince } = endpoint;
      if (!grouped || writingSince === null || now() - writingSince > patienceMs) writeQueue(endpoint);
    });
  }

  /** Writes the waiting requests in groups until none is left. */
  async function writeQueue(endpoint: InboundEndpoint): Promise<void> {
    while (endpoint.queue.length > 0) {
      const since = now();
      endpoint.writingSince = since;
      // Senders that were answered together send again together. The first request waits for the others that have come.
      if (endpoint.grouped) await nextTurn();
      const group = takeGroup(endpoint);
      if (group.length === 0) break;
      try {
        const recordIds = await writeGroup(endpoint, group);
        for (const [place, { resolve }] of group.entries()) resolve(recordIds?.[place]);
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
      if (endpoint.writingSince !== since) return;
    }
    endpoint.writingSince = null;
  }

  async function writeGroup({ acceptCall }: InboundEndpoint, group: Ordinary[]): Promise<string[] | null> {
    const column = (value: (request: Ordinary) => string | null) => {
      const values = group.map(value);
      return values.some(each => each !== null) ? values : null;
    };
    try {
      const [row] = await ask(
        () =>
          sql(
            acceptCall,
            column(({ text }) => text),
            column(({ keyHash }) => keyHash),
            column(({ bodyDigest }) => bodyDigest),
            column(({ bodyDigest, checkDigest }) => (checkDigest ? bodyDigest : null)),
          ),
        idRows,
      );
      return row!.ids;
    } catch (error) {
      // Nothing was written. Each request is written alone to find out which one fails, and why.
      const { code = '' } = error as { code?: string };
      if (error instanceof Unavailable && !/^(40|55P03)/.test(code)) throw error;
      return null;
    }
  }

  /** Writes a payload. One that cannot be mapped or written is stored as failed. Throws Unavailable. */
  async function receive(
    endpoint: InboundEndpoint,
    payload: Payload,
    repetition: Repetition,
    ignored: boolean,
  ): Promise<Outcome> {
    if (!ignored && !endpoint.isBatch && payload.ok) {
      const { keyHash, bodyDigest, checkDigest } = repetition;
      const recordId = await accept(endpoint, { text: payload.text, keyHash, bodyDigest, checkDigest });
      if (recordId !== undefined) return accepted(recordId);
    }
    const outcome = await write({ endpointId: endpoint.id, payload, repetition, ignored, requestId: null });
    if (outcome.status === 429) endpoint.usedUpUntil = now() + (outcome.retry_after ?? 0) * 1000;
    return outcome;
  }

  /** Runs the requests that `collecta.retry_inbound` queued, oldest first, until none is left that can be run. */
  async function runRetries(signal: AbortSignal): Promise<void> {
    for (let ran = 1; ran > 0 && !signal.aborted; ) {
      ran = 0;
      const rows = await ask(
        () => sql`select request_id, inbound_endpoint_id, body from collecta.next_inbound_retries()`,
        retryRows,
      );
      for (const { request_id, inbound_endpoint_id, body } of rows) {
        const payload = readPayload(Buffer.from(body));
        const { status } = await write({ endpointId: inbound_endpoint_id, payload, requestId: request_id });
        if (status === 202 || status === 422 || status === 503) ran++;
        log.info('inbound request run again', { request_id, inbound_endpoint_id, status });
      }
    }
  }

  /** Counts a request that is refused and not stored. */
  function refused(endpointId: string, status: number): void {
    const key = `${endpointId} ${status}`;
    const count = refusals.get(key) ?? { inbound_endpoint_id: endpointId, status, requests: 0 };
    count.requests++;
    refusals.set(key, count);
  }

  /**
   * Writes the refusals counted since the last call, and makes the database delete what is older than its retention.
   */
  async function maintain(): Promise<void> {
    const counted = [...refusals.values()];
    refusals.clear();
    try {
      await ask(
        () => sql`select collecta.maintain_inbound(${JSON.stringify(counted)}::text::json)::int as gone`,
        goneRows,
      );
    } catch (error) {
      for (const { inbound_endpoint_id, status, requests } of counted) {
        refused(inbound_endpoint_id, status);
        refusals.get(`${inbound_endpoint_id} ${status}`)!.requests += requests - 1;
      }
      throw error;
    }
  }

  return { find, receive, runRetries, refused, maintain, forget: () => cache.clear() };
}

export type Receiver = ReturnType<typeof createReceiver>;
