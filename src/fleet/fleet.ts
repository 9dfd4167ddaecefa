import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Config, ConfigError, type Environment, type Settings } from '../config.ts';
import { whyUnreachable } from '../database/errors.ts';
import { createRest, type Rest } from '../database/rest.ts';
import { type InboundAnswer, type InboundRequest, problem } from '../inbound/handler.ts';
import { type Inbound, openInbound, serveInbound } from '../inbound/server.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';
import { observe } from '../operations/observe.ts';
import type { Site } from '../operations/serve.ts';
import { createBudget } from '../outbound/budget.ts';
import { deadlineMs, dispatch, maxBodyBytes } from '../outbound/dispatcher.ts';
import { createOrigins } from '../outbound/origins.ts';
import { type Listing, type Member, readDatabases } from './databases.ts';
import { type Served, type State, serveFleetOperations } from './operations.ts';

export type FleetOptions = {
  /** The process's settings: of a database, unless it has its own; and those that all share. */
  settings: Settings;
  env: Environment;
  /** The file or directory that names the databases. */
  path: string;
  delivers: boolean;
  receives: boolean;
  /** Makes the console of a database. */
  openSite: (config: Config, log: Log) => Site;
};

type Running = {
  member: Member;
  /** Ends its dispatcher. */
  stop: AbortController;
  /** Ends its inbound: when the process stops, after the requests that are under way. */
  leave: AbortController;
  ended: Promise<void>;
  state: State;
  inbound: Inbound | undefined;
  /** Only where its settings say that idle sessions are released. */
  rest: Rest | undefined;
  site: Site | undefined;
};

const staggerMs = 20;
const longestRetryMs = 60_000;

/**
 * Serves many databases in one process until `signal` aborts. Each has a dispatcher of its own; connections to receivers,
 * places for requests and memory for bodies are shared, in turns. `reload` is called with a function that reads the file or
 * directory again: databases that are new there are begun, those that are gone or changed are ended first. What fails for
 * one database is tried again for that one, and leaves the others alone.
 */
export async function runFleet(
  { settings, env, path, delivers, receives, openSite }: FleetOptions,
  log: Log,
  signal: AbortSignal,
  onReload: (reload: () => void) => void,
): Promise<void> {
  const origins = createOrigins({ deadlineMs });
  const shared = { origins, budget: createBudget(settings.concurrency, maxBodyBytes) };
  const running = new Map<string, Running>();

  function begin(member: Member, after: Promise<void> | undefined, delayMs: number): void {
    const [stop, leave] = [new AbortController(), new AbortController()];
    const { idle, idleIntervalHours } = member.config;
    const rest = idle === 'release' ? createRest(idleIntervalHours * 3_600_000, !delivers) : undefined;
    const each: Running = {
      ...{ member, stop, leave, rest, ended: Promise.resolve() },
      ...{ state: 'waiting', inbound: undefined, site: undefined },
    };
    running.set(member.name, each);
    const named = withName(log, member.name);
    const work = async () => {
      await after;
      await pause(delayMs, undefined, { signal: stop.signal }).catch(() => {});
      // One session listens for both directions.
      const channels = { collecta_inbound: () => each.inbound?.changed() };
      const onListening = (listens: boolean) => {
        each.state = listens ? 'listening' : 'polling';
      };
      const deliver = () => dispatch(member.config, named, stop.signal, { ...shared, channels, onListening }, rest);
      const onFailure = () => {
        each.state = 'failed';
      };
      await Promise.all([
        ...(receives ? [always(named, leave.signal, () => receive(each, named, !delivers), onFailure)] : []),
        ...(delivers
          ? [always(named, stop.signal, deliver, onFailure), observe(member.config, named, stop.signal, rest)]
          : []),
      ]);
    };
    each.ended = work().finally(async () => {
      await each.site?.close();
      if (running.get(member.name) === each) running.delete(member.name);
    });
  }

  function end({ stop, leave }: Running): void {
    stop.abort();
    leave.abort();
  }

  function apply({ members, problems }: Listing): void {
    for (const [name, reason] of problems)
      log.error('a database of the fleet cannot be served', { database_name: name, reason });
    let begun = 0;
    for (const each of running.values()) {
      const { name } = each.member;
      // One whose settings cannot be read goes on with those that it had.
      if (!members.has(name) && !problems.has(name)) end(each);
    }
    for (const member of members.values()) {
      const before = running.get(member.name);
      if (before && !before.stop.signal.aborted && isDeepStrictEqual(before.member, member)) continue;
      if (before) end(before);
      begin(member, before?.ended, begun++ * staggerMs);
    }
    log.info('serving a fleet', { databases: members.size, begun, refused: problems.size });
  }

  const first = readDatabases(path, env);
  if (first.members.size === 0 && first.problems.size > 0)
    throw new ConfigError(
      Array.from(first.problems, ([name, reason]) => `${name} (of COLLECTA_DATABASES): ${reason}`).join('\n'),
    );
  apply(first);
  onReload(() => {
    if (signal.aborted) return;
    try {
      apply(readDatabases(path, env));
    } catch (error) {
      log.error('the fleet stays as it is', { reason: (error as Error).message });
    }
  });

  /** The database that a request is for: its host names it, or the first part of its path. */
  async function answer(request: InboundRequest): Promise<InboundAnswer> {
    const host = request.headers.host?.replace(/:\d+$/, '').toLowerCase();
    const byHost = Array.from(running.values()).find(({ member }) => host && member.inboundHost === host);
    const [, name = '', rest = ''] = /^\/([^/]*)(\/.*)$/.exec(request.target) ?? [];
    const found = byHost ?? running.get(name);
    if (!found) return problem(404, 'There is nothing here.');
    if (!found.inbound) return problem(503, 'Not ready yet.', { headers: { 'retry-after': '5' } });
    return found.inbound.answer(byHost ? request : { ...request, target: rest });
  }

  async function receive(each: Running, named: Log, listens: boolean): Promise<void> {
    const { config } = each.member;
    const { signal: left } = each.leave;
    await waitUntilInstalled(config.databaseUrl, named, left);
    if (left.aborted) return;
    const inbound = openInbound(config, named, { idle: true, listens: listens && !each.rest, rest: each.rest });
    each.inbound = inbound;
    if (listens) each.state = 'listening';
    await aborted(left);
    each.inbound = undefined;
    await inbound.close();
  }

  signal.addEventListener('abort', () => {
    for (const { stop } of running.values()) stop.abort();
  });
  const databases = () =>
    Array.from(running.values(), (each): Served => {
      const { member, rest } = each;
      const site = () => {
        if (each.leave.signal.aborted) return undefined;
        const base = settings.consolePath === '/' ? '' : settings.consolePath;
        const config = { ...member.config, consolePath: `${base}/${member.name}` };
        each.site ??= openSite(config, withName(log, member.name));
        return each.site;
      };
      return { name: member.name, config: member.config, state: rest?.resting ? 'resting' : each.state, rest, site };
    });
  const operations = serveFleetOperations(settings, databases, log, signal);
  if (receives) await serveInbound(settings, answer, log, signal);
  else await aborted(signal);
  for (const each of running.values()) end(each);
  await Promise.all(Array.from(running.values(), ({ ended }) => ended));
  await Promise.all([operations, origins.close()]);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** Runs `service` until `signal` aborts, again whenever it fails. */
async function always(
  log: Log,
  signal: AbortSignal,
  service: () => Promise<void>,
  onFailure: () => void,
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    const started = performance.now();
    try {
      await service();
    } catch (error) {
      onFailure();
      if (performance.now() - started > longestRetryMs) failures = 0;
      const retryInMs = Math.min(1_000 * 2 ** failures, longestRetryMs);
      const reason = whyUnreachable(error) ?? (error as Error).message;
      log.error('a database of the fleet failed, it is tried again', { reason, retry_in_ms: retryInMs });
      await pause(retryInMs, undefined, { signal }).catch(() => {});
    }
  }
}

/** A log whose lines name the database. */
function withName(log: Log, name: string): Log {
  const at = (level: keyof Log) => (event: string, fields?: Parameters<Log['info']>[1]) =>
    log[level](event, { database_name: name, ...fields });
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
