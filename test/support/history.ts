import type { Sql } from './database.ts';

/**
 * Writes the history that `days` days of running would have left: `endpoints` endpoints with `attempts` attempts spread
 * over them. The rows are written directly into the partitions and counted as observe() would have counted them. One
 * attempt in 25 fails, and one in 250 is given up.
 */
export async function fillHistory(
  sql: Sql,
  { endpoints, attempts, days }: { endpoints: number; attempts: number; days: number },
): Promise<void> {
  await sql.unsafe(`
    create table if not exists orders (id text primary key, customer text, quantity numeric, status text,
      updated_at timestamptz);
    select collecta.attach_module('orders', 'orders', status_column => 'status', ignore_columns => '{updated_at}');
    insert into collecta.endpoints (endpoint_id, name, url, events, after_change_id)
    select 'ep_' || lpad(to_hex(n), 32, '0'),
      case when ${endpoints} > 100 then 'customer-' || lpad(n::text, 5, '0') end,
      'https://hooks' || n || '.example.com/orders', '{record_created,record_updated,status_change}', 0
    from generate_series(1, ${endpoints}) n on conflict do nothing;
    insert into collecta.endpoint_secrets (endpoint_id, secret) select endpoint_id, collecta.new_secret()
      from collecta.endpoints on conflict do nothing;
    ${endpoints <= 100 ? 'select collecta.subscribe_endpoint(endpoint_id) from collecta.endpoints;' : ''}
    set timezone = 'UTC';
    do $$ declare day date; parent text; begin
      for day in select generate_series(current_date - ${days + 1}, current_date - 1, interval '1 day')::date loop
        for parent in select unnest(array['events', 'delivery_attempts']) loop
          execute format('create table if not exists collecta.%I partition of collecta.%I for values from (%L) to (%L)',
            parent || to_char(day, '_YYYYMMDD'), parent, day::timestamptz, (day + 1)::timestamptz);
          execute format('alter table collecta.%I owner to collecta_owner', parent || to_char(day, '_YYYYMMDD'));
        end loop;
      end loop;
    end $$;
    reset timezone;`);
  const each = 100_000;
  for (let from = 0; from < attempts; from += each)
    await sql.unsafe(`
      with made as materialized (
        select n, now() - interval '20 s' -
          (((${attempts} - n)::float8 / ${attempts}) + 0.018 * sin(18 * (n::float8 / ${attempts})) *
            (n::float8 / ${attempts}) * (1 - n::float8 / ${attempts})) * interval '${days} days' as at,
          'ep_' || lpad(to_hex(1 + (n::bigint * 7919) % ${endpoints}), 32, '0') as endpoint_id,
          case when n % 250 = 0 then 'exhausted' when n % 25 = 0 then 'failed' when n % 997 = 0 then 'blocked'
            else 'delivered' end as outcome,
          10 + (n::bigint * 31 % 90) + case when n % 50 = 0 then 700 else 0 end as ms
        from generate_series(${from} + 1, ${Math.min(from + each, attempts)}) n
      ), named as materialized (
        select m.*,
          'evt_' || lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
            || '7' || lpad(to_hex(n), 19, '0') as event_id,
          'dlv_' || lpad(to_hex((extract(epoch from at) * 1000)::bigint + 60 + ms), 12, '0')
            || '7' || lpad(to_hex(n), 19, '0') as id
        from made m
      ), events as (
        insert into collecta.events (event_id, routed_at, sequence, position, module, event, record_id, occurred_at,
          body)
        select event_id, at, n, 0, 'orders', (array['record_created', 'record_updated', 'status_change'])[1 + n % 3],
          'rec_' || n % 100000, at,
          '{"id":"' || event_id || '","event":"record_updated","module":"orders","record_id":"rec_' || n % 100000
          || '","record":{"id":"rec_' || n % 100000 || '","customer":"Müller & Söhne",'
          || '"quantity":123456789012345678901234567890.10,"status":"done"},"previous":{"status":"open"}}'
        from named
      )
      insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url,
        request_headers, response_status,
        response_headers, response_body, error, started_at, finished_at, lookup_ms, connect_ms, first_byte_ms, total_ms,
        next_attempt_at)
      select id, event_id, at, endpoint_id, case outcome when 'exhausted' then 6 else 1 end, outcome,
        'https://hooks.example.com/orders',
        json_build_object('content-type', 'application/json', 'webhook-id', event_id, 'webhook-timestamp', '1790000000',
        'webhook-signature', 'v1,AAAA', 'x-webhook-signature', 'sha256=00'),
        case outcome when 'delivered' then 200 when 'blocked' then null else 503 end,
        case when outcome <> 'blocked' then '{"server":"nginx","content-type":"application/json"}'::json end,
        case outcome when 'delivered' then '{"ok":true}' when 'blocked' then null else 'try later' end,
        case outcome when 'delivered' then null when 'blocked' then 'blocked: 10.1.2.3 is private'
          else 'receiver answered 503' end,
        at + interval '60 ms', at + (60 + ms) * interval '1 ms', 0.4, 2 + n % 5, ms * 0.8, ms,
        case when outcome = 'failed' then at + interval '1 minute' end
      from named`);
  await sql.unsafe('analyze collecta.delivery_attempts; analyze collecta.events');
  await sql`update collecta.observation
    set counted_until = now() - ${`${days} days 1 hour`}::interval,
      folded_until = date_trunc('hour', now() - ${`${days} days 2 hours`}::interval)`;
  while ((await sql`select collecta.observe() as more`)[0]?.more);
}

/**
 * A database as an on-call engineer would find it, for the console's pictures and tests. It has two logins: ada is an
 * operator and vera a reader.
 */
export async function consoleExample(sql: Sql) {
  await fillHistory(sql, { endpoints: 12, attempts: 12_000, days: 1 });
  const name = `do $$ begin
    if to_regrole('ada') is null then create role ada login password 'ada' in role collecta_operator; end if;
    if to_regrole('vera') is null then create role vera login password 'vera' in role collecta_reader; end if;
  end $$;`;
  await sql.unsafe(`${name}
    update collecta.endpoints set name = (array['erp', 'warehouse', 'crm', 'billing', 'data lake', 'partner Nordwind',
        'partner Südwind', 'search', 'audit', 'mobile push', 'chat', 'legacy']
      )[('x' || right(endpoint_id, 4))::bit(16)::int];
    select collecta.pause_endpoint(endpoint_id, 'ERP upgrade until noon') from collecta.endpoints where name = 'legacy';
    select collecta.rotate_secret(endpoint_id, '20 hours') from (
      select endpoint_id from collecta.endpoints where name = 'erp') e;
    create table customers (id int primary key, email text, phone text, name text);
    select collecta.attach_module('customers', 'customers', exclude_columns => '{email,phone}');
    insert into orders values ('o-1', 'Ada', 12.5, 'open', now());
    insert into collecta.unrouted (change_id, position, endpoint_id, module, record_id, event_id, reason)
    select 9000 + n, 0, 'ep_' || lpad('3', 32, '0'), 'orders', 'rec_' || n, 'evt_' || n,
      'operator does not exist: jsonpath item is a string'
    from generate_series(1, 3) n;
    insert into collecta.operator_actions (done_by, login, statement, touched)
    values ('ada', 'ada', 'select collecta.replay_undelivered(''ep_0000'', ''-infinity'', ''infinity'');', 80);`);
  const [inbound] = await sql`select inbound_endpoint_id as id from collecta.create_inbound_endpoint('orders',
    '{"$.order.id": "id", "$.order.qty": "quantity"}', match_columns => '{id}')`;
  await sql`
    insert into collecta.inbound_requests (request_id, inbound_endpoint_id, received_at, state, operation, record_id,
      reason, column_name,
      sqlstate, mapping_version, body)
    select collecta.new_id('req'), ${inbound!.id}, now() - n * interval '7 min',
      case when n % 5 = 0 then 'failed' else 'accepted' end::collecta.inbound_request_state,
      case when n % 5 <> 0 then 'created' end, case when n % 5 <> 0 then 'o-' || n end,
      case when n % 5 = 0 then 'column quantity takes no text' end, case when n % 5 = 0 then 'quantity' end,
      case when n % 5 = 0 then '22P02' end, 1, '{"order": {"id": "o-' || n || '", "qty": 12345678901234567890.10}}'
    from generate_series(1, 12) n`;
  const [given] = await sql`select id, endpoint_id from collecta.delivery_attempts where outcome = 'exhausted'
      order by id desc limit 1`;
  // The delivery was given up after these earlier attempts.
  await sql`
    insert into collecta.delivery_attempts
    select (jsonb_populate_record(null::collecta.delivery_attempts, to_jsonb(a) || jsonb_build_object(
      'id', 'dlv_' || lpad(to_hex((extract(epoch from a.routed_at) * 1000)::bigint + n), 12, '0')
        || '7' || lpad(to_hex(n), 19, '0'),
      'attempt', n, 'outcome', 'failed', 'started_at', a.routed_at + n * interval '1 ms',
      'finished_at', a.routed_at + n * interval '1 ms' + n * interval '40 ms', 'total_ms', n * 40, 'first_byte_ms',
      n * 30,
      'next_attempt_at', a.routed_at + (n + 1) * interval '1 ms'))).*
    from collecta.delivery_attempts a cross join generate_series(1, 5) n where a.id = ${given!.id}`;
  let happened = 0;
  return {
    endpointId: given!.endpoint_id as string,
    deliveryId: given!.id as string,
    inboundEndpointId: inbound!.id as string,
    /** Three attempts are recorded with the time of this call. */
    async happen() {
      happened += 3;
      await sql`
        insert into collecta.delivery_attempts
        select (jsonb_populate_record(null::collecta.delivery_attempts,
          to_jsonb(a) || jsonb_build_object('id', collecta.new_id('dlv'), 'started_at',
          now() - a.total_ms * interval '1 ms', 'finished_at', now()))).*
        from (select * from collecta.delivery_attempts where outcome = 'delivered' order by id desc limit 3) a`;
      return happened;
    },
  };
}
