import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { connect } from '../../src/database/connect.ts';
import { listenerConfig } from '../../src/database/listen.ts';
import { openPool } from '../../src/database/pool.ts';
import { freePort, startServer } from '../support/database.ts';
import { startStandby } from '../support/standby.ts';

const primary = await startServer();
t.teardown(() => primary.stop());
const standby = await startStandby(t, primary.url());
const nobody = await freePort();

const url = (ports: number[], wanted?: string) =>
  `postgres://postgres:postgres@${ports.map(port => `127.0.0.1:${port}`).join()}/postgres` +
  (wanted ? `?target_session_attrs=${wanted}` : '');
const question = `select current_setting('port')::int as port`;

/** For each driver: the port of the server that it reached, or the code of its error. */
async function reached(of: string) {
  const code = ({ code, message }: { code?: string; message: string }) => code ?? message;
  const sql = connect(of, { max: 1, connect_timeout: 5 });
  const byPostgres = await sql.unsafe(question).then(rows => rows[0]!.port, code);
  await sql.end({ timeout: 1 });
  const byPg = await listenerConfig(of).then(async config => {
    const client = new pg.Client(config);
    await client.connect();
    const { rows } = await client.query(question);
    await client.end();
    return rows[0].port;
  }, code);
  return { postgres: byPostgres, pg: byPg };
}

t.test('with several hosts, both drivers connect to the one that target_session_attrs asks for', async t => {
  const [p, s] = [primary.port, standby.port];
  const cases: [ports: number[], wanted: string | undefined, expected: number | string][] = [
    [[nobody, s, p], undefined, s],
    [[p, s], undefined, p],
    [[nobody, s, p], 'any', s],
    [[nobody, s, p], 'read-write', p],
    [[p, s], 'read-write', p],
    [[s, p], 'primary', p],
    [[p, s], 'standby', s],
    [[p, s], 'read-only', s],
    [[p, s], 'prefer-standby', s],
    [[p, nobody], 'prefer-standby', p],
    [[p], 'read-write', p],
    [[s], 'read-write', 'HOST_NOT_SUITED'],
    [[s, nobody], 'primary', 'HOST_NOT_SUITED'],
    [[p], 'standby', 'HOST_NOT_SUITED'],
    [[nobody, nobody], undefined, 'ECONNREFUSED'],
    [[nobody, nobody], 'read-write', 'ECONNREFUSED'],
  ];
  for (const [ports, wanted, expected] of cases) {
    const of = url(ports, wanted);
    t.strictSame(await reached(of), { postgres: expected, pg: expected }, of.replace(/.*@/, ''));
  }
});

t.test('while no host fits, a pool retries with pauses and finds the host that becomes available', async t => {
  const port = await freePort();
  const pool = openPool(url([nobody, port], 'read-write'), { max: 2 });
  t.teardown(() => pool.end({ timeout: 1 }));
  const cpu = process.cpuUsage();
  for (let i = 0; i < 5; i++) {
    await t.rejects(Promise.all([pool`select 1`, pool`select 2`]), { code: 'ECONNREFUSED' });
    await pause(100);
  }
  const { user, system } = process.cpuUsage(cpu);
  t.ok(user + system < 1_000_000, `${(user + system) / 1000} ms of the processor`);
});

t.test('after a failover new sessions go to the new primary, where LISTEN works', async t => {
  const of = url([primary.port, standby.port], 'read-write');
  const pool = openPool(of, { max: 1 });
  t.teardown(() => pool.end({ timeout: 1 }));
  t.equal((await pool`select current_setting('port')::int as port`)[0]!.port, primary.port);
  await primary.stop();
  await standby.promote();
  let port: number | undefined;
  for (let i = 0; i < 50 && port === undefined; i++) {
    port = await pool`select current_setting('port')::int as port`.then(
      rows => rows[0]!.port,
      () => undefined,
    );
    await pause(50);
  }
  t.equal(port, standby.port);
  const client = new pg.Client(await listenerConfig(of));
  await client.connect();
  await client.query('listen x');
  await client.end();
});
