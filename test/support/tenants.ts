import { claimBySql, record } from './changes.ts';
import type { Sql } from './database.ts';

/**
 * A module with the tenants acme and beta, an endpoint of each and one without a scope. There are deliveries that were
 * given up, one that is queued, changes that are set aside or wait, and a row in each other table that tells something
 * about a tenant.
 */
export async function twoTenants(sql: Sql) {
  await sql.unsafe(`
    create table orders (id text primary key, tenant text not null);
    select collecta.attach_module('orders', 'orders', scope_column => 'tenant', on_truncate => 'ignore')`);
  const made = async (scope: string | null) => {
    const name = scope ?? 'everybody';
    const [row] = await sql`
      select endpoint_id from collecta.create_endpoint(${`https://${name}-receiver.example/`}, '{record_created}',
        name => ${`${name}-endpoint`}, scope => ${scope})`;
    return row!.endpoint_id as string;
  };
  const [acme, beta, everybody] = [await made('acme'), await made('beta'), await made(null)];
  await sql`select collecta.rotate_secret(endpoint_id, '1 hour') from unnest(${[acme, beta]}::text[]) endpoint_id`;
  await sql`insert into orders values ('acme-1', 'acme'), ('beta-1', 'beta')`;
  const { deliveries } = await claimBySql(sql);
  for (const delivery of deliveries) {
    const tenant = delivery.body.includes('acme') ? 'acme' : 'beta';
    await record(sql, [delivery], 'exhausted', {
      status: 500,
      error: `${tenant}-error`,
      response_body: `${tenant}-answer`,
    });
  }
  // One change is queued, and another is captured but not routed.
  await sql`insert into orders values ('acme-2', 'acme'), ('beta-2', 'beta')`;
  await sql`select collecta.route_changes(100)`;
  await sql`insert into orders values ('acme-3', 'acme'), ('beta-3', 'beta')`;
  await sql`
    insert into collecta.unrouted (change_id, endpoint_id, module, record_id, event_id, routed_at, reason)
    select case scope when 'acme' then 1002 else 1001 end, case scope when 'acme' then ${acme} else ${beta} end, module,
      record_id, event_id, routed_at, scope || '-reason'
    from collecta.events where record_id in ('acme-1', 'beta-1')`;
  const [inbound] = await sql`
    select inbound_endpoint_id as id from collecta.create_inbound_endpoint('orders',
      '{"$.id": "id", "tenant": {"constant": "beta-constant"}}', '{id}')`;
  await sql.unsafe(`
    insert into collecta.unrouted (change_id, module, record_id, reason)
      values (1003, 'orders', 'beta-9', 'beta-reason');
    insert into collecta.muted_changes (change_id, module, operation, records, transaction_id, context, captured_at)
      values (1005, 'orders', 'U', 7, '1', 'beta-context', now());
    insert into collecta.endpoint_flow (endpoint_id, failing_since) values
      ('${acme}', now() - interval '1 hour'), ('${beta}', now() - interval '1 hour')
      on conflict (endpoint_id) do update set failing_since = excluded.failing_since;
    insert into collecta.delivery_rollup (endpoint_id, starts_at, exhausted, answers) values
      ('${acme}', date_trunc('minute', now()), 111111, '{"3": 111111}'),
      ('${beta}', date_trunc('minute', now()), 616263, '{"3": 616263}'),
      ('', date_trunc('minute', now()), 777777, '{"3": 777777}');
    insert into collecta.alerts (kind, subject, detail) values ('endpoint', '${acme}', '{"name": "acme-endpoint"}'),
      ('endpoint', '${beta}', '{"name": "beta-endpoint"}');
    insert into collecta.operator_actions (done_by, login, statement) values
      ('beta_operator', 'beta_operator', 'beta-statement');
    insert into collecta.inbound_requests
      (request_id, inbound_endpoint_id, received_at, state, record_id, error, reason, mapping_version, body)
      values ('req_beta', '${inbound!.id}', now(), 'failed', 'beta-1', 'beta-error', 'beta-reason', 1, 'beta-body');
    insert into collecta.inbound_refusals (day, inbound_endpoint_id, status, requests)
      values (current_date, '${inbound!.id}', 429, 888888);
    insert into collecta.routing_trouble (sqlstate, reason) values ('22000', 'beta-reason')
      on conflict (singleton) do update set reason = excluded.reason, seen_at = now()`);
  const attempts = await sql`
    select a.id, a.event_id, v.scope, a.endpoint_id from collecta.delivery_attempts a
    join collecta.events v on v.event_id = a.event_id order by a.id`;
  const attemptOf = (scope: string, endpoint: string) =>
    attempts.find(each => each.scope === scope && each.endpoint_id === endpoint)!.id as string;
  return {
    acme,
    beta,
    everybody,
    inbound: inbound!.id as string,
    attemptOfAcme: attemptOf('acme', everybody),
    attemptOfBeta: attemptOf('beta', everybody),
    attempts: attempts as unknown as { id: string; event_id: string }[],
    /** The arguments that functions are called with. */
    ids: [
      acme,
      beta,
      everybody,
      inbound!.id,
      'req_beta',
      ...attempts.flatMap(({ id, event_id }) => [id, event_id]),
    ] as string[],
    /** What reveals something about beta: its values, its endpoint, and figures that include it. */
    markersOfBeta: ['beta-', beta, inbound!.id as string, '616263', '777777', '888888'],
  };
}
