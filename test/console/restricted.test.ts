import t from 'tap';
import { openConsole } from '../support/console.ts';
import { useServer } from '../support/database.ts';
import { allThatIsShown, whereIs } from '../support/reading.ts';
import { until } from '../support/runner.ts';
import { twoTenants } from '../support/tenants.ts';

const { admin, database } = await useServer();

t.test('on every page a login that is restricted to a tenant sees only that tenant', async t => {
  const { url, sql } = await database();
  await admin.unsafe(`
    create role acme_operator login password 'x' in role collecta_operator;
    create role any_operator login password 'x' in role collecta_operator`);
  const tenants = await twoTenants(sql);
  await sql`select collecta.restrict_login('acme_operator', '{acme}')`;
  const paths = [
    '', '?span=day', 'endpoints', 'endpoints?state=active', 'deliveries', 'deliveries?outcome=exhausted',
    'deliveries?module=orders', 'deliveries?record=beta-1', 'deliveries?contains={}', 'tail', 'modules', 'inbound',
    'inbound/req_beta', 'unrouted', 'actions', 'act/route-again', `act/retry-inbound?id=${tenants.inbound}`,
    ...[tenants.acme, tenants.beta, tenants.everybody].flatMap(id => [
      `endpoints/${id}`, `deliveries?endpoint=${id}`, `unrouted?endpoint=${id}`, `act/replay-given-up?endpoint=${id}`,
    ]),
    ...tenants.attempts.flatMap(({ id, event_id }) => [`deliveries/${id}`, `deliveries?id=${event_id}`]),
  ]; // biome-ignore format: a list
  // A page repeats its own URL; that part is removed before the search.
  const asked = (path: string, text: string) => {
    for (const value of [tenants.beta, tenants.inbound, 'beta-1'])
      if (path.includes(value)) text = text.replaceAll(value, '');
    return text;
  };
  const shownTo = async (name: string) =>
    (await allThatIsShown({ url, name }, paths, t)).map(({ where, text }) => ({ where, text: asked(where, text) }));
  const everything = whereIs(await shownTo('any_operator'), tenants.markersOfBeta);
  for (const page of ['', 'endpoints', 'deliveries', 'inbound', 'unrouted', 'actions'])
    t.ok(
      everything.includes(`console ${page}`),
      `who is not restricted sees the other tenant on ${page || 'overview'}`,
    );
  const shown = await shownTo('acme_operator');
  t.strictSame(whereIs(shown, tenants.markersOfBeta), []);
  const own = whereIs(shown, ['acme-', tenants.acme, '111,111', '111 111']);
  for (const page of ['', 'endpoints', 'deliveries', 'unrouted', `endpoints/${tenants.acme}`])
    t.ok(own.includes(`console ${page}`), `and its own on ${page || 'overview'}`);
  t.ok(own.includes('tail'), 'and in tail');

  const { client, origin } = await openConsole(t, url);
  const person = client();
  await person.login('acme_operator', 'x');
  t.equal((await person.send(`/console/endpoints/${tenants.beta}`)).status, 404);
  t.equal((await person.send(`/console/deliveries/${tenants.attemptOfBeta}`)).status, 404);

  // The live tail.
  const stream = await person.send('/console/tail/events');
  t.equal(stream.status, 200, origin);
  let received = '';
  const reading = (async () => {
    for await (const part of stream.body!.pipeThrough(new TextDecoderStream())) {
      received += part;
      if (received.includes('event: attempts')) break;
    }
  })();
  await until('it is connected', () => received.includes('event: ready'));
  await sql`
    insert into collecta.delivery_attempts
    select (jsonb_populate_record(null::collecta.delivery_attempts, to_jsonb(a) || jsonb_build_object(
      'id', collecta.new_id('dlv'), 'started_at', now(), 'finished_at', now()))).*
    from collecta.delivery_attempts a join collecta.events v on v.event_id = a.event_id order by v.scope desc`;
  await reading;
  t.match(received, 'acme-1');
  t.notMatch(received, 'beta');
});

t.test(
  'a login with more than a hundred endpoints that gave up sees a hundred of its own, and how many more',
  async t => {
    const { url, sql } = await database();
    await sql.unsafe(`
    do $$ begin if to_regrole('many_reader') is null
      then create role many_reader login password 'x' in role collecta_reader; end if; end $$;
    create table orders (id int primary key, tenant text);
    select collecta.attach_module('orders', 'orders', scope_column => 'tenant');
    insert into collecta.endpoints (endpoint_id, name, url, events, scope, after_change_id)
    select 'ep_' || lpad(n::text, 32, '0'), 'n-' || n, 'https://x.example/', '{record_created}',
      case when n <= 130 then 'acme' when n <= 140 then 'small' else 'beta' end, 0
    from generate_series(1, 400) n;
    insert into collecta.events (event_id, routed_at, sequence, position, module, event, scope, occurred_at, body)
    select 'evt_' || n, now(), n, 0, 'orders', 'record_created', 'acme', now(), '{}' from generate_series(1, 400) n;
    insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url, started_at,
      finished_at)
    select 'dlv_' || lpad(to_hex((extract(epoch from now()) * 1000)::bigint + n), 12, '0') || lpad(n::text, 20, '0'),
      'evt_' || n, now(), 'ep_' || lpad(n::text, 32, '0'), 6, 'exhausted', 'https://x.example/', now(), now()
    from generate_series(1, 400) n`);
    const health = (scopes: string[]) =>
      sql.begin(async tx => {
        await tx`select collecta.restrict_login('many_reader', ${scopes})`;
        await tx`set local role many_reader`;
        return [
          ...(await tx`select h.subject, h.detail from collecta.health h where h.problem = 'deliveries were given up'`),
        ] as { subject: string; detail: string }[];
      });
    // The endpoints of these tenants gave up before 260 others did.
    t.equal((await health(['small'])).length, 10);
    const acme = await health(['acme']);
    t.equal(acme.length, 101);
    t.strictSame(
      acme.filter(({ subject }) => Number(subject.slice(3)) > 130),
      [],
      'only its own',
    );
    t.match(acme.find(({ detail }) => detail.includes('further'))?.detail, /^30 further endpoints/);
    const { client } = await openConsole(t, url);
    const person = client();
    await person.login('many_reader', 'x');
    const page = await person.text('/console/');
    t.match(page, 'deliveries were given up</strong> <span class="quiet">101</span>');
    t.match(page, 'These are 100 of 101');
    t.notMatch(page, 'n-131');
  },
);
