import t from 'tap';
import { claimBySql, record, refusal } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { allThatIsRead, whereIs } from '../support/reading.ts';
import { twoTenants } from '../support/tenants.ts';

const { server, admin, connect, database } = await useServer();
await database(); // creates the roles
await admin.unsafe(`
  create role acme_reader login password 'x' in role collecta_reader;
  create role acme_operator login password 'x' in role collecta_operator;
  create role both_operator login password 'x' in role collecta_operator;
  create role any_operator login password 'x' in role collecta_operator;
  create role acme_member login password 'x' in role acme_reader;
  create role acme_noinherit login password 'x' noinherit in role acme_reader;
  create role beta_operator login password 'x' in role collecta_operator`);

const as = (name: string, database: string) =>
  connect(server.url(database).replace('postgres:postgres@', `${name}:x@`), { max: 1 });
const recordsOf = async (sql: Sql) =>
  (await sql`select distinct record_id from collecta.webhook_deliveries order by 1`).map(row => row.record_id);

t.test('a restricted login cannot read another tenant’s data by any query', async t => {
  const { name, sql } = await database();
  const tenants = await twoTenants(sql);
  await sql`select collecta.restrict_login('acme_reader', '{acme}')`;
  await sql`select collecta.restrict_login('acme_operator', '{acme}')`;

  const everywhere = whereIs(await allThatIsRead(sql, tenants.ids), tenants.markersOfBeta);
  for (const column of [
    'events.body', 'webhook_deliveries.error', 'undelivered.error', 'unrouted.reason', 'muted_changes.context',
    'inbound_requests.body', 'endpoints.url', 'endpoint_flow.endpoint_id', 'delivery_rollup.exhausted', 'alerts.detail',
    'operator_actions.statement', 'subscriptions.endpoint_id', 'secret_overlaps.endpoint_id',
    'delivery_queue.endpoint_id', 'delivery_attempts.endpoint_id', 'routing_trouble.reason', 'health.subject',
    'inbound_refusals.requests', 'inbound_budgets.inbound_endpoint_id', 'inbound_endpoints.mapping',
  ]) // biome-ignore format: a list
    t.ok(everywhere.includes(`collecta.${column}`), `a superuser reads it in ${column}`);

  for (const role of ['acme_reader', 'acme_operator']) {
    const session = as(role, name);
    const read = await allThatIsRead(session, tenants.ids);
    t.strictSame(whereIs(read, tenants.markersOfBeta), [], role);
    const own = whereIs(read, ['acme-', tenants.acme]);
    for (const column of ['events.body', 'webhook_deliveries.error', 'undelivered.error', 'unrouted.reason',
      'endpoints.url', 'endpoint_flow.endpoint_id', 'delivery_rollup.endpoint_id', 'alerts.detail', 'health.subject',
      'subscriptions.endpoint_id', 'secret_overlaps.endpoint_id', 'delivery_queue.endpoint_id',
    ]) // biome-ignore format: a list
      t.ok(own.includes(`collecta.${column}`), `${role} sees its own in ${column}`);
    t.strictSame(
      (await session`select endpoint_id from collecta.webhook_deliveries where scope = 'acme' order by 1`).map(
        row => row.endpoint_id,
      ),
      [tenants.acme, tenants.everybody].sort(),
      'its deliveries are shown wherever they went',
    );
    t.equal((await session`select from collecta.waiting_changes`).length, 0);
    await session.end();
  }
  t.equal((await as('any_operator', name)`select from collecta.waiting_changes`).length, 2);
});

t.test('nothing that the login can do lifts its restriction', async t => {
  const { name, sql } = await database();
  await twoTenants(sql);
  await sql`select collecta.restrict_login('acme_reader', '{acme}')`;
  const login = as('acme_reader', name);
  t.strictSame(await recordsOf(login), ['acme-1']);
  for (const attempt of [
    `set role collecta_reader`,
    `set session authorization acme_reader`,
    `set row_security = on`,
    `set collecta.scopes = 'beta'`,
    `set search_path = pg_temp`,
  ]) {
    await login.unsafe(attempt);
    t.strictSame(await recordsOf(login), ['acme-1'], attempt);
    await login.unsafe('reset all; reset role; reset session authorization');
  }
  await login`set row_security = off`;
  t.equal((await refusal(login`select from collecta.webhook_deliveries`))?.code, '42501', 'row_security = off');
  await login`reset row_security`;
  for (const statement of [
    `select collecta.unrestrict_login('acme_reader')`,
    `select collecta.restrict_login('acme_reader', '{acme,beta}')`,
    `delete from collecta.restricted_logins`,
    `alter view collecta.webhook_deliveries owner to acme_reader`,
    `alter table collecta.events disable row level security`,
  ])
    t.equal((await refusal(login.unsafe(statement)))?.code, '42501', statement);

  t.strictSame(await recordsOf(as('acme_member', name)), ['acme-1'], 'a member that inherits its rights');
  const noinherit = as('acme_noinherit', name);
  t.equal((await refusal(recordsOf(noinherit)))?.code, '42501');
  await noinherit`set role acme_reader`;
  t.strictSame(await recordsOf(noinherit), ['acme-1'], 'a member that sets the role');

  // A function that belongs to an unrestricted role.
  await sql.unsafe(`
    create schema helpers; grant create, usage on schema helpers to any_operator;
    grant usage on schema helpers to public;
    set role any_operator;
    create function helpers.records() returns setof text language sql security definer
      as 'select record_id from collecta.webhook_deliveries';
    reset role`);
  t.strictSame([...(await login`select distinct records from helpers.records()`)], [{ records: 'acme-1' }]);
  // A function of the restricted login, called in an unrestricted role's session.
  await sql.unsafe(`
    grant create on schema helpers to acme_reader;
    set role acme_reader;
    create function helpers.all_records() returns setof text language sql security definer
      as 'select record_id from collecta.webhook_deliveries';
    reset role`);
  t.strictSame(
    [...(await as('any_operator', name)`select distinct all_records from helpers.all_records()`)],
    [{ all_records: 'acme-1' }],
  );
  t.strictSame(await recordsOf(as('any_operator', name)), ['acme-1', 'beta-1'], 'who is not restricted sees all');
  await sql.begin(async tx => {
    await tx`set local role acme_reader`;
    t.strictSame(await recordsOf(tx as never), ['acme-1'], 'a superuser that sets the role, as a proxy’s console does');
  });

  // A function in a WHERE condition gets no more values than the result shows.
  await login.unsafe(`
    create function pg_temp.seen(value text) returns boolean language plpgsql cost 0.0001 as $$
    begin if value like '%beta%' then raise exception 'seen' using errcode = 'ZZ001'; end if; return true; end $$`);
  for (const [view, column] of [
    ['webhook_deliveries', 'record_id'], ['webhook_deliveries', 'request_body'], ['webhook_deliveries', 'error'],
    ['events', 'body'], ['undelivered', 'error'], ['unrouted', 'reason'], ['endpoints', 'url'],
    ['alerts', 'detail::text'], ['operator_actions', 'statement'],
  ]) // biome-ignore format: a list
    await login.unsafe(`select count(*) from collecta.${view} where pg_temp.seen(${column})`);
});

t.test('several restrictions combine, and one can be replaced or removed', async t => {
  const { name, sql } = await database();
  await twoTenants(sql);
  const login = as('both_operator', name);
  await sql`select collecta.restrict_login('both_operator', '{acme,beta}')`;
  t.strictSame(await recordsOf(login), ['acme-1', 'beta-1']);
  await sql`select collecta.restrict_login('collecta_operator', '{beta}')`;
  t.strictSame(await recordsOf(login), ['beta-1'], 'its own and that of a role it is a member of');
  t.strictSame(await recordsOf(sql), ['acme-1', 'beta-1'], 'not a superuser');
  await sql`select collecta.restrict_login('both_operator', '{acme}')`;
  t.strictSame(await recordsOf(login), []);
  await sql`select collecta.unrestrict_login('collecta_operator')`;
  t.strictSame(await recordsOf(login), ['acme-1']);
  await sql`select collecta.restrict_login('both_operator', '{}')`;
  t.strictSame(await recordsOf(login), []);
  await sql`select collecta.unrestrict_login('both_operator')`;
  t.strictSame(await recordsOf(login), ['acme-1', 'beta-1']);
});

t.test('a restricted operator can act on its own tenant only', async t => {
  const { name, sql } = await database();
  const tenants = await twoTenants(sql);
  await sql`select collecta.restrict_login('acme_operator', '{acme}')`;
  const operator = as('acme_operator', name);
  for (const [statement, code] of [
    [`pause_endpoint('${tenants.beta}')`, 'CW010'],
    [`pause_endpoint('${tenants.everybody}')`, 'CW010'],
    [`resume_endpoint('${tenants.beta}')`, 'CW010'],
    [`send_test_event('${tenants.beta}')`, 'CW010'],
    [`replay_undelivered('${tenants.beta}')`, 'CW010'],
    [`replay_delivery('${tenants.attemptOfBeta}')`, 'CW020'],
    [`pause_inbound_endpoint('${tenants.inbound}')`, 'CW050'],
    [`resume_inbound_endpoint('${tenants.inbound}')`, 'CW050'],
    [`retry_inbound('${tenants.inbound}')`, 'CW050'],
    [`retry_inbound('req_beta')`, 'CW050'],
    [`test_inbound_mapping('${tenants.inbound}', '{}')`, 'CW050'],
  ] as const) {
    const error = await refusal(operator.unsafe(`select collecta.${statement}`));
    t.equal(error?.code, code, statement);
    t.notMatch(`${error?.message} ${error?.detail} ${error?.hint}`, /beta-/, statement);
  }
  const queued = async () =>
    (
      await sql`
      select distinct v.scope from collecta.delivery_queue q join collecta.events v on v.event_id = q.event_id
      where q.replay_of is not null`
    ).map(row => row.scope);
  t.equal(
    (await operator`select collecta.replay_undelivered()::int as n`)[0]!.n,
    2,
    'to its endpoint and the common one',
  );
  t.strictSame(await queued(), ['acme']);
  await operator`select collecta.replay_delivery(${tenants.attemptOfAcme})`;
  t.equal((await operator`select collecta.route_again() as n`)[0]!.n, 1);
  t.strictSame(
    (await sql`select module, change_id::int from collecta.unrouted where not again order by change_id`).map(
      row => row.change_id,
    ),
    [1001, 1003],
    'what is another tenant’s, and a whole change, is left',
  );
  await operator`select collecta.pause_endpoint(${tenants.acme})`;
  await operator`select collecta.resume_endpoint(${tenants.acme})`;
  const [test] = await operator`select collecta.send_test_event(${tenants.acme}) as id`;
  t.equal(
    (await operator`select from collecta.events where event_id = ${test!.id}`).length,
    1,
    'it sees its test event',
  );
  await operator`select collecta.note_action('acme-statement', 1)`;
  t.strictSame(
    (await operator`select statement from collecta.operator_actions`).map(row => row.statement),
    ['acme-statement'],
  );
  // Deliveries that it did not touch go on as before.
  const { deliveries } = await claimBySql(sql);
  t.ok((await record(sql, deliveries)) > 0);
});

t.test('an ineffective restriction is refused, and one that has become ineffective is reported', async t => {
  const { name, sql } = await database();
  await admin.unsafe(`
    create role passes login bypassrls in role collecta_reader;
    create role owns login in role collecta_owner;
    create role sends login in role collecta_dispatcher, collecta_reader;
    create role leaves login password 'x' in role collecta_reader`);
  for (const [login, scopes] of [
    ['nobody', '{acme}'],
    ['postgres', '{acme}'],
    ['passes', '{acme}'],
    ['owns', '{acme}'],
    ['sends', '{acme}'],
    ['leaves', null],
    ['leaves', '{acme,null}'],
  ] as const) {
    // biome-ignore format: a list
    const error = await refusal(sql`select collecta.restrict_login(${login}, ${scopes}::text::text[])`);
    t.equal(error?.code, 'CW043', `${login} ${scopes}`);
    t.ok(error?.detail && error.hint);
  }
  const problems = async () =>
    (await sql`select problem, subject from collecta.health`).map(row => `${row.problem}: ${row.subject}`);
  await twoTenants(sql);
  const before = await problems();
  const added = async () => (await problems()).filter(each => !before.includes(each));
  await sql`select collecta.restrict_login('leaves', '{acme}')`;
  t.strictSame(await added(), []);
  await admin`alter role leaves rename to left_behind`;
  await admin`alter role left_behind password 'x'`; // an md5 password would not survive the renaming
  t.strictSame(await added(), ['restricted login is gone: leaves']);
  t.strictSame(await recordsOf(as('left_behind', name)), ['acme-1'], 'a renamed login stays restricted');
  await admin`create role leaves login password 'x' in role collecta_reader`;
  t.strictSame(await recordsOf(as('leaves', name)), ['acme-1'], 'and so is a new one of its name');
  t.strictSame(await added(), []);
  await admin`alter role leaves bypassrls`;
  t.strictSame(await added(), ['restriction does not hold: leaves']);
  await admin`drop role leaves`;
  t.strictSame(await added(), ['restricted login is gone: leaves']);
  const [{ hint } = {}] = await sql`select hint from collecta.health where subject = 'leaves'`;
  await sql.unsafe(hint);
  t.strictSame(await added(), []);
});

t.test('in a restored copy a restriction follows the name of the role, not its oid', async t => {
  const { name, sql } = await database();
  await twoTenants(sql);
  await sql`select collecta.restrict_login('acme_reader', '{acme}')`;
  // This is the state that pg_restore leaves in another cluster, where the oid belongs to another role.
  await sql`
    update collecta.restricted_logins
    set database = '1/1', login_oid = (select oid from pg_roles where rolname = 'any_operator')`;
  t.strictSame(await recordsOf(as('acme_reader', name)), ['acme-1']);
  t.strictSame(await recordsOf(as('any_operator', name)), ['acme-1', 'beta-1']);
  await sql`update collecta.restricted_logins set login = 'not_in_this_cluster'`;
  t.match(
    [...(await sql`select severity, subject from collecta.health where problem = 'restricted login is gone'`)],
    [{ severity: 'warning', subject: 'not_in_this_cluster' }],
  );
});
