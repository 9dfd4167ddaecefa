import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Config, ConfigError, type Environment, type Settings } from '../config.ts';
import { whyUnreachable } from '../database/errors.ts';
import { createRest, type Rest } from '../database/rest.ts';
import { type InboundAnswer, type InboundRequest, problem } from '../inbound/handler.ts';
import { type Inbound, openInbound, serveInbound } from '../inbound/service.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';
import { observe } from '../operations/observe.ts';
import type { Site } from '../operations/serve.ts';
import { createBudget } from '../outbound/budget.ts';
import { deadlineMs, dispatch } from '../outbound/dispatcher.ts';
import { createOrigins } from '../outbound/origins.ts';
import { type Listing, type Member, readDatabases } from './databases.ts';
import { type Served, type State, serveFleetOperations } from './operations.ts';

export type FleetOptions = {
  /** The settings of the process. */
  settings: Settings;
  env: Environment;
  /** The file or directory that names the databases. */
  path: string;
  delivers: boolean;
  receives: boolean;
  /** Creates the console of a database. */
  openSite: (config: Config, log: Log) => Site;
};

/** One database that is being served. */
type Running = {
  member: Member;
  /** Stops its dispatcher. */
  stop: AbortController;
  /** Stops its inbound. When the process stops, inbound first answers the requests that are under way. */
  leave: AbortController;
  ended: Promise<void>;
  state: State;
  inbound: Inbound | undefined;
  /** Undefined unless its settings say that idle sessions are released. */
  rest: Rest | undefined;
  site: Site | undefined;
};

const staggerMs = 20;
const longestRetryMs = 60_000;

/**
 * Serves many databases in one process until `signal` aborts. Each database has its own dispatcher. The dispatchers
 * share the connections to receivers, the places for requests and the memory for bodies, and take turns.
 *
 * `onReload` gets a function that reads the file or directory again. That function starts serving new databases, stops
 * serving those that are gone, and restarts those whose settings changed. A failure of one database is retried and does
 * not affect the others. Throws ConfigError if no database can be served at the start.
 */
export async function runFleet(
  { settings, env, path, delivers, receives, openSite }: FleetOptions,
  log: Log,
  signal: AbortSignal,
  onReload: (reload: () => void) => void,
): Promise<void> {
  const origins = createOrigins({ deadlineMs });
  const shared = { origins, budget: createBudget(settings.concurrency) };
  const running = new Map<string, Running>(); // by the database's name

  /** Starts serving a database, `delayMs` after `after` has resolved. */
  function begin(member: Member, after: Promise<void> | undefined, delayMs: number): void {
    const [stop, leave] = [new AbortController(), new AbortController()];
    const { idle, idleIntervalHours } = member.config;
    const rest = idle === 'release' ? createRest(idleIntervalHours * 3_600_000, !delivers) : undefined;
    const each: Running = {
      ...{ member, stop, leave, rest, ended: Promise.resolve() },
      ...{ state: 'waiting', inbound: undefined, site: undefined },
    };
    running.set(member.name, each);
    const memberLog = withName(log, member.name);
    const serveMember = async () => {
      await after;
      await pause(delayMs, undefined, { signal: stop.signal }).catch(() => {});
      // The dispatcher's listening session listens for inbound too, which saves a session for each database.
      const channels = { collecta_inbound: () => each.inbound?.changed() };
      const onListening = (listens: boolean) => {
        each.state = listens ? 'listening' : 'polling';
      };
      const deliver = () => dispatch(member.config, memberLog, stop.signal, { ...shared, channels, onListening }, rest);
      const onFailure = () => {
        each.state = 'failed';
      };
      await Promise.all([
        ...(receives
          ? [restartOnFailure(memberLog, leave.signal, () => receive(each, memberLog, !delivers), onFailure)]
          : []),
        ...(delivers
          ? [
              restartOnFailure(memberLog, stop.signal, deliver, onFailure),
              observe(member.config, memberLog, stop.signal, rest),
            ]
          : []),
      ]);
    };
    each.ended = serveMember().finally(async () => {
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
      // A database whose new settings cannot be read keeps its old ones.
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

  /** Passes an inbound request to its database, which the request's host or the first segment of its path names. */
  async function answer(request: InboundRequest): Promise<InboundAnswer> {
    const host = request.headers.host?.replace(/:\d+$/, '').toLowerCase();
    const byHost = Array.from(running.values()).find(({ member }) => host && member.inboundHost === host);
    const [, name = '', rest = ''] = /^\/([^/]*)(\/.*)$/.exec(request.target) ?? [];
    const addressee = byHost ?? running.get(name);
    if (!addressee) return problem(404, 'There is nothing here.');
    if (!addressee.inbound) return problem(503, 'Not ready yet.', { headers: { 'retry-after': '5' } });
    return addressee.inbound.answer(byHost ? request : { ...request, target: rest });
  }

  /** Answers the inbound requests of one database until its `leave` aborts. */
  async function receive(each: Running, memberLog: Log, listens: boolean): Promise<void> {
    const { config } = each.member;
    const { signal: left } = each.leave;
    await waitUntilInstalled(config.databaseUrl, memberLog, left);
    if (left.aborted) return;
    const inbound = openInbound(config, memberLog, { idle: true, listens: listens && !each.rest, rest: each.rest });
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

/** Runs `service` until `signal` aborts. When it fails, it is started again after a pause of 1 s to 60 s. */
async function restartOnFailure(
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

/** A log that adds the database's name to each line. */
function withName(log: Log, name: string): Log {
  const at = (level: keyof Log) => (event: string, fields?: Parameters<Log['info']>[1]) =>
    log[level](event, { database_name: name, ...fields });
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
