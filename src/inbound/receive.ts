import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { createKeyring } from '../secrets/keyring.ts';
import type { Payload } from './payload.ts';
import { type Sender, type SenderKey, senderKey, senderRow } from './senders.ts';
import { createUpkeep } from './upkeep.ts';

const endpointRow = z.object({
  id: z.string(),
  functionNumber: z.number(),
  /** The path of each mapped column. */
  paths: z.record(z.string(), z.string().nullable()),
  /** Whether a payload makes several records. */
  isBatch: z.boolean(),
  /** Whether an element of a batch that cannot be written does not affect the others. */
  eachAlone: z.boolean(),
  secrets: z.array(z.string()),
  requireSignature: z.enum(['false', 'true', 'standard']),
  maxBodyBytes: z.number(),
  rateLimit: z.number(),
  /** The events that become records. Null: all except those that the sender's row ignores. */
  events: z.array(z.string()).nullable(),
  /** How long a body's digest is stored. Null: as long as the signature requires. */
  digestSeconds: z.number().nullable(),
  /** Whether several requests may be written in one transaction. */
  grouped: z.boolean(),
  sender: senderRow,
});
type EndpointRow = z.infer<typeof endpointRow>;

/** An inbound endpoint, read from the database and prepared for use. */
export type InboundEndpoint = Omit<EndpointRow, 'functionNumber' | 'secrets' | 'requireSignature'> & {
  /** The statement that calls accept_inbound_<n>, as a template, because a name in it cannot be a parameter. */
  acceptCall: TemplateStringsArray;
  /** The sender's signatures that are accepted; null if no signature is required. */
  signatures: Sender['signatures'] | null;
  keys: SenderKey[];
  /** The group that the next request joins. */
  nextGroup: Group | undefined;
  /** Settles when the last group is written; undefined if none is being written. */
  lastGroup: Promise<unknown> | undefined;
  /** Until when, by `now`, the rate budget is used up. Until then the database is not asked. */
  usedUpUntil: number;
};

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

/** The answer of `collecta.receive_inbound`. `status` is null for a retry that another process has run. */
export type Outcome = Partial<z.infer<typeof outcomeRow>>;

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

/** The most requests, and the most characters, that are written in one transaction. */
const maxGroup = 32;
const maxGroupLength = 1024 * 1024;
/** With so many calls under way, a group waits for further requests, but no longer than `gatherMs`. */
const busyCalls = 2;
const gatherMs = 1;
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

type Ordinary = Repetition & { text: string };

/** Requests that are written in one transaction, and the ids of their records; null if each has to be written alone. */
type Group = { requests: Ordinary[]; hashes: Set<string>; length: number; ids: Promise<string[] | null> };

/** A retry is compared by the hashes that are stored. */
const stored: Repetition = { keyHash: null, sameBody: false, bodyDigest: null, checkDigest: true };

/** Calls the database for inbound. It caches endpoints, and makes one call for each request or group of requests. */
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
  const waiting = new Set<() => void>();
  const gathering = new Set<() => void>();
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
    const [gathered] = gathering;
    gathered?.();
  }

  /**
   * Waits for further requests of a group: while calls are under way, but no longer than a millisecond, so that a slow
   * endpoint does not delay the others.
   */
  async function gather(): Promise<void> {
    await nextTurn();
    if (connections - free < busyCalls) return;
    await new Promise<void>(resolve => {
      const done = () => {
        clearTimeout(timer);
        gathering.delete(done);
        resolve();
      };
      const timer = setTimeout(done, gatherMs);
      gathering.add(done);
    });
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
      nextGroup: undefined,
      lastGroup: undefined,
      usedUpUntil: before?.usedUpUntil ?? 0,
    };
    if (cache.size >= maxCached) cache.delete(cache.keys().next().value!);
    cache.set(key, { endpoint, until: now() + maxAgeMs });
    return endpoint;
  }

  function openSecrets({ id, secrets, sender }: EndpointRow): SenderKey[] {
    try {
      return secrets.map(secret => senderKey(keyring.open(secret, id), sender));
    } catch (error) {
      log.error('inbound cannot open a secret', { inbound_endpoint_id: id, reason: (error as Error).message });
      throw new Unavailable('a secret cannot be opened');
    }
  }

  /**
   * Runs one transaction: rate budget, idempotency key, record and stored request. After a deadlock it tries again; if
   * that fails too, the request is stored as failed.
   */
  async function write(
    endpointId: string,
    payload: Payload,
    { keyHash, sameBody, bodyDigest, checkDigest }: Repetition = stored,
    ignored = false,
    requestId: string | null = null,
  ): Promise<Outcome> {
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

  /** Writes a request with others of its endpoint. The record's id; undefined if it has to be written alone. */
  async function accept(endpoint: InboundEndpoint, request: Ordinary): Promise<string | undefined> {
    const hashes = [request.keyHash, request.bodyDigest].filter(hash => hash !== null);
    let group = endpoint.nextGroup;
    if (group && hashes.some(hash => group!.hashes.has(hash))) {
      // It repeats a request of the group, so it is answered after that one.
      await group.ids;
      return undefined;
    }
    const isFull = group?.requests.length === maxGroup || (group?.length ?? 0) + request.text.length > maxGroupLength;
    if (!group || isFull || !endpoint.grouped) group = openGroup(endpoint);
    for (const hash of hashes) group.hashes.add(hash);
    group.length += request.text.length;
    const place = group.requests.push(request) - 1;
    return (await group.ids)?.[place];
  }

  /** Opens a group for the requests that arrive while the one before is written. */
  function openGroup(endpoint: InboundEndpoint): Group {
    const { lastGroup, grouped } = endpoint;
    const group: Group = { requests: [], hashes: new Set(), length: 0, ids: Promise.resolve(null) };
    group.ids = (async () => {
      if (lastGroup && grouped) await Promise.race([lastGroup, pause(patienceMs)]);
      // Senders that were answered together send again together. The first request waits for the others that have come.
      await (grouped ? gather() : undefined);
      if (endpoint.nextGroup === group) endpoint.nextGroup = undefined;
      return writeGroup(endpoint, group.requests);
    })();
    endpoint.nextGroup = group;
    const written = group.ids
      .catch(() => {})
      .then(() => {
        if (endpoint.lastGroup === written) endpoint.lastGroup = undefined;
      });
    endpoint.lastGroup = written;
    return group;
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
      const recordId = await accept(endpoint, { text: payload.text, ...repetition });
      if (recordId !== undefined) return { status: 202, record_id: recordId };
    }
    const outcome = await write(endpoint.id, payload, repetition, ignored);
    if (outcome.status === 429) endpoint.usedUpUntil = now() + (outcome.retry_after ?? 0) * 1000;
    return outcome;
  }

  return { find, receive, forget: () => cache.clear(), ...createUpkeep({ sql, log, ask, write }) };
}

export type Receiver = ReturnType<typeof createReceiver>;
