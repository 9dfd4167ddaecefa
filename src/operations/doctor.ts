import ky from 'ky';
import type { Config } from '../config.ts';
import { connect, describeDatabase, type Sql, whyUnreachable } from '../database/connect.ts';
import { readOnlyServer } from '../database/errors.ts';
import { status } from '../install/migrate.ts';
import { createLog } from '../log.ts';
import { createGuard } from '../outbound/destination.ts';
import { createWakeup } from '../outbound/wakeup.ts';
import { createKeyring } from '../secrets/keyring.ts';

/** Prints the result of one check. */
type Tell = (verdict: 'ok' | 'note' | 'FAIL', finding: string, hint?: string) => void;

/** Checks what a process needs that delivers or receives. */
async function checkRunner(config: Config, sql: Sql, tell: Tell): Promise<void> {
  await sql`select collecta.check_installation(${config.environment ?? null})`.then(
    () => tell('ok', 'this is the database that collecta was installed in'),
    error => tell('FAIL', error.message, error.hint),
  );
  const keyring = createKeyring(config.secretKey);
  const [sealed] = await sql`select collecta.sealing_keys() as keys`;
  const missing = (sealed!.keys as string[]).filter(keyId => !keyring.has(keyId));
  if (missing.length > 0)
    tell(
      'FAIL',
      `the key of sealed secrets is missing: ${missing.join(', ')}`,
      'Set COLLECTA_SECRET_KEY as runners have it.',
    );

  const silent = await new Promise<string | undefined>(done => {
    const finish = (listens: boolean, reason?: string) => {
      clearTimeout(timer);
      wakeup.close().then(() => done(listens ? undefined : (reason ?? 'no answer')));
    };
    const timer = setTimeout(() => finish(false), 6_000);
    const log = createLog('error', () => {});
    const wakeup = createWakeup(config.listenUrl, log, { onWake: () => {}, onListening: finish });
  });
  if (silent === undefined) tell('ok', 'notifications come through');
  else
    tell(
      'note',
      `no notification comes through (${silent}): changes wait up to ${config.pollIntervalMs} ms`,
      'Behind a transaction pooler set COLLECTA_LISTEN_URL to a direct connection.',
    );
}

async function checkHealth(sql: Sql, tell: Tell): Promise<void> {
  const problems = await sql`select * from collecta.health`;
  if (problems.length === 0) tell('ok', 'collecta.health has no rows');
  for (const { severity, problem, subject, detail, hint } of problems)
    tell(severity === 'error' ? 'FAIL' : 'note', `${problem}: ${subject}. ${detail}`, hint);
}

/**
 * Checks whether the destinations of the endpoints are allowed from this machine and with the settings of this process.
 */
async function checkDestinations(config: Config, sql: Sql, tell: Tell): Promise<void> {
  const guard = createGuard(config);
  const endpoints = await sql`
    select endpoint_id, name, url from collecta.endpoints where state <> 'deleted' order by created_at limit 100`;
  for (const { endpoint_id, name, url } of endpoints) {
    const verdict = await guard.check(url);
    const endpoint = `endpoint ${name ?? endpoint_id}`;
    if (verdict.allowed) tell('ok', `${endpoint}: ${new URL(url).host} is allowed (${verdict.addresses.join(', ')})`);
    else if (verdict.unresolved)
      tell('FAIL', `${endpoint}: ${verdict.reason}`, 'Check the name, this machine’s DNS and COLLECTA_DNS_SERVERS.');
    else
      tell(
        'FAIL',
        `${endpoint}: blocked, ${verdict.reason}`,
        'If it is intended, allow it with COLLECTA_ALLOW_HTTP or COLLECTA_ALLOW_DESTINATIONS.',
      );
  }
}

/**
 * Checks everything that this login needs for its roles, from this machine. Prints a line for each check: `ok`, `note`,
 * or `FAIL` with what to do. For a runner's login it checks what a runner needs, for a reader's login collecta.health,
 * and for a login with both roles also whether destinations are allowed. Changes nothing. Resolves to the exit status:
 * 1 if a check failed.
 */
export async function doctor(config: Config, say: (line: string) => void): Promise<number> {
  let failed = false;
  const tell: Tell = (verdict, finding, hint) => {
    failed ||= verdict === 'FAIL';
    say(`${verdict.padEnd(4)}  ${finding}${hint ? `\n      ${hint}` : ''}`);
  };
  const sql = connect(config.databaseUrl, { max: 1, purpose: 'doctor' });
  try {
    const [server] = await sql`select current_setting('server_version') as version, current_user as "user",
      (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as tls`;
    const session = `as ${server?.user}, ${server?.tls ? 'over TLS' : 'without TLS'}`;
    tell('ok', `database ${describeDatabase(config.databaseUrl)}: PostgreSQL ${server?.version}, ${session}`);
    const { state, pending, readOnly } = await status(config.databaseUrl);
    if (readOnly)
      tell('FAIL', readOnlyServer, 'Connect to the primary; with several hosts: target_session_attrs=read-write.');
    if (state !== 'up to date') {
      tell('FAIL', `collecta is ${state}: ${pending.length} migrations are missing`, 'collecta-webhooks migrate');
      return 1;
    }
    tell('ok', 'collecta is up to date');

    // The functions are read from the catalog. Looking one up by name needs USAGE on the schema, which a login without
    // any of our roles does not have.
    const [may] = await sql`
      select coalesce(bool_or(proname = 'claim_deliveries' and granted), false) as dispatch,
        coalesce(bool_or(proname = 'receive_inbound' and granted), false) as receive,
        coalesce(bool_or(proname = 'check_health' and granted), false) as read,
        coalesce(bool_or(proname = 'pause_endpoint' and granted), false) as operate
      from (
        select p.proname, has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute') as granted
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'collecta') p`;
    const tasks = (['dispatch', 'receive', 'read', 'operate'] as const).filter(task => may?.[task]);
    if (tasks.length === 0) {
      tell(
        'FAIL',
        `${server?.user} has no role of collecta`,
        `grant collecta_dispatcher, collecta_inbound to ${server?.user}; -- for a runner; ` +
          'for a person: collecta_reader or collecta_operator',
      );
      return 1;
    }
    tell('ok', `${server?.user} may ${tasks.join(', ')}`);
    if (may?.dispatch || may?.receive) await checkRunner(config, sql, tell);
    if (may?.read) await checkHealth(sql, tell);
    else tell('note', `${server?.user} may not read health and endpoints, so they were not checked`);
    if (may?.dispatch && may.read) await checkDestinations(config, sql, tell);
  } catch (error) {
    const { message, hint } = error as { message: string; hint?: string };
    tell('FAIL', `database ${describeDatabase(config.databaseUrl)}: ${whyUnreachable(error) ?? message}`, hint);
  } finally {
    await sql.end({ timeout: 1 });
  }
  if (config.operationsPort !== undefined) {
    const url = `http://${config.operationsHost}:${config.operationsPort}/readyz`;
    await ky.get(url, { timeout: 3_000, retry: 1 }).then(
      () => tell('ok', `a runner answers at ${url}`),
      error => tell('note', `no runner is ready at ${url}: ${error.message}`),
    );
  }
  return failed ? 1 : 0;
}
