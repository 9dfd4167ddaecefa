import ky from 'ky';
import type { Config } from '../config.ts';
import { connect, describeDatabase, whyUnreachable } from '../database/connect.ts';
import { readOnlyServer } from '../database/errors.ts';
import { status } from '../install/migrate.ts';
import { createLog } from '../log.ts';
import { createGuard } from '../outbound/destination.ts';
import { createWakeup } from '../outbound/wakeup.ts';
import { createKeyring } from '../secrets/keyring.ts';

/**
 * Looks at everything a delivery needs, from here: a line for each, `ok`, `note` or `FAIL` with what to do. Changes nothing.
 * Resolves to 1 if anything failed.
 */
export async function doctor(config: Config, say: (line: string) => void): Promise<number> {
  let failed = false;
  const tell = (verdict: 'ok' | 'note' | 'FAIL', what: string, hint?: string) => {
    failed ||= verdict === 'FAIL';
    say(`${verdict.padEnd(4)}  ${what}${hint ? `\n      ${hint}` : ''}`);
  };
  const sql = connect(config.databaseUrl, { max: 1, purpose: 'doctor' });
  try {
    const [server] = await sql`select current_setting('server_version') as version, current_user as "user",
      (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as tls`;
    tell(
      'ok',
      `database ${describeDatabase(config.databaseUrl)}: PostgreSQL ${server?.version}, as ${server?.user}, ${server?.tls ? 'over TLS' : 'without TLS'}`,
    );
    const { state, pending, readOnly } = await status(config.databaseUrl);
    if (readOnly)
      tell('FAIL', readOnlyServer, 'Connect to the primary; with several hosts: target_session_attrs=read-write.');
    if (state !== 'up to date') {
      tell('FAIL', `collecta is ${state}: ${pending.length} migrations are missing`, 'collecta-webhooks migrate');
      return 1;
    }
    tell('ok', 'collecta is up to date');

    const [rights] = await sql`select
      has_function_privilege('collecta.maintain()', 'execute') as dispatches, has_table_privilege('collecta.webhook_deliveries', 'select') as reads`;
    if (rights?.dispatches) tell('ok', `${server?.user} may dispatch`);
    else tell('FAIL', `${server?.user} may not dispatch`, `grant collecta_dispatcher to ${server?.user};`);
    await sql`select collecta.check_installation(${config.environment ?? null})`.then(
      () => tell('ok', 'this is the database that collecta was installed in'),
      error => tell('FAIL', error.message, error.hint),
    );

    if (rights?.dispatches) {
      const [sealed] = await sql`select collecta.sealing_keys() as keys`;
      const keyring = createKeyring(config.secretKey);
      const missing = (sealed!.keys as string[]).filter(keyId => !keyring.has(keyId));
      if (missing.length > 0)
        tell(
          'FAIL',
          `secrets are sealed by key ${missing.join(', ')}, which is not in COLLECTA_SECRET_KEY`,
          'Give it that key too, or run collecta-webhooks seal where it is.',
        );
      else if (sealed!.keys.length > 0) tell('ok', 'every sealed secret in use can be opened');
    }

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

    if (rights?.reads) {
      for (const { severity, problem, subject, detail, hint } of await sql`select * from collecta.health`)
        tell(severity === 'error' ? 'FAIL' : 'note', `${problem}: ${subject}. ${detail}`, hint);
      const guard = createGuard(config);
      for (const {
        endpoint_id,
        name,
        url,
      } of await sql`select endpoint_id, name, url from collecta.endpoints where state <> 'deleted' order by created_at limit 100`) {
        const verdict = await guard.check(url);
        if (verdict.allowed)
          tell(
            'ok',
            `endpoint ${name ?? endpoint_id}: ${new URL(url).host} is allowed (${verdict.addresses.join(', ')})`,
          );
        else
          tell(
            'FAIL',
            `endpoint ${name ?? endpoint_id}: blocked, ${verdict.reason}`,
            `If you mean it: COLLECTA_ALLOW_HTTP, COLLECTA_ALLOW_DESTINATIONS.`,
          );
      }
    } else
      tell(
        'note',
        `${server?.user} may not read health and endpoints: not looked at`,
        `grant collecta_reader to ${server?.user};`,
      );
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
