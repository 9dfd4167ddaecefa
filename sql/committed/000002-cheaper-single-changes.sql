--! Previous: sha1:eac230193feed47e3a6bb21d2a925f89efe622b3
--! Hash: sha1:3b7a8d3ddc5c579285c74a12237ed4ccd93b8a8e
--! Message: cheaper single changes

--! Included outbound/2_route/internal/event_body.sql
create or replace function collecta.event_body(
  event_id text, event text, sequence bigint, captured_at timestamptz, module text, record_id text,
  status_from text, status_to text, record text, previous text, extras text
) returns text
language sql stable
as $$
  select format('{"id":"%s","event":"%s","sequence":%s,"occurred_at":"%s","module":"%s","record_id":%s%s,"record":%s%s%s}',
    event_id, event, sequence, to_char(captured_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    module, coalesce(record_id, 'null'),
    case when event = 'status_change' then format(',"from":%s,"to":%s', status_from, status_to) end,
    record, ',"previous":' || previous, extras)
$$;
comment on function collecta.event_body is
  'Returns a payload as text. record_id, status_from, status_to, record and previous are JSON already. extras is what '
  'event_extras returns, or empty.';
--! EndIncluded outbound/2_route/internal/event_body.sql
--! Included outbound/2_route/internal/read_change.sql
-- Reads one captured change by the columns of its module version. If the captured row lacks a configured column, that
-- column was renamed. The current version of the module may know its new name; otherwise the change cannot be routed
-- until the module is attached again.
create or replace function collecta.read_change(
  module collecta.module_versions, operation collecta.operation, old json, new json
) returns collecta.change_reading
-- It has no SET clause and no OUT parameters but a named type, because each would cost time at every call.
language plpgsql stable
as $$
declare
  rows_text constant text := concat(old, new);
  is_masked constant boolean := strpos(rows_text, E'\\u') > 0 or strpos(rows_text, E'\x7f') > 0;
  captured json;
  scope text;
  old_id text;
  new_id text;
  events text[];
  updated boolean;
  status_changed boolean;
  custom_data_changed boolean;
  status_from text;
  status_to text;
  previous text;
  truncated boolean;
  unroutable text;
  missing text;
  other collecta.module_versions;
begin
  <<reading>>
  begin
    if module.version is null or operation not in ('I', 'U', 'D') then
      events := case operation when 'T' then '{record_deleted}'::text[] end;
      unroutable := case when module.version is null then 'the module version it was captured under is gone' end;
      exit reading;
    end if;
    if is_masked then
      old := collecta.mask_escapes(old);
      new := collecta.mask_escapes(new);
    end if;
    captured := coalesce(new, old);
    if strpos(rows_text, '"$truncated"') > 0 then
      truncated := (old -> '$truncated') is not null or (new -> '$truncated') is not null;
    end if;

    if cardinality(module.key_columns) = 1 and not is_masked then
      old_id := old ->> module.key_columns[1];
      new_id := new ->> module.key_columns[1];
    else
      old_id := collecta.record_id(old, module.key_columns);
      new_id := collecta.record_id(new, module.key_columns);
    end if;
    if coalesce(new_id, old_id) is null
        or module.status_column is not null and (captured -> module.status_column) is null
        or module.scope_column is not null and (captured -> module.scope_column) is null
        or module.custom_data_column is not null and (captured -> module.custom_data_column) is null then
      missing := collecta.missing_columns(captured, module, truncated);
      if missing is not null then
        select v.* into other
        from collecta.modules m join collecta.module_versions v on v.version = m.current_version
        where m.module_id = module.module_id and v.version <> module.version
          and collecta.missing_columns(captured, v, truncated) is null;
        if found then
          module := other;
        else
          unroutable := format('column %s is not in the captured row: it was renamed or dropped; '
            'select collecta.attach_module(%L, %L, ...); then select collecta.route_again();', missing,
            module.relation::regclass, module.slug);
        end if;
        -- At ordered endpoints the record's later changes wait for this one, so the record must be known.
        old_id := collecta.record_id(old, module.key_columns);
        new_id := collecta.record_id(new, module.key_columns);
      end if;
    end if;
    if module.scope_column is not null then
      scope := collecta.record_id(captured, array[module.scope_column]);
    end if;
    if operation <> 'U' or unroutable is not null or old_id <> new_id then
      events := case when unroutable is null then
        case operation when 'I' then '{record_created}'::text[] else '{record_deleted}' end end;
      exit reading;
    end if;

    if module.status_column is not null then
      status_from := coalesce(collecta.unmask_escapes((old -> module.status_column)::text), 'null');
      status_to := coalesce(collecta.unmask_escapes((new -> module.status_column)::text), 'null');
      status_changed := status_from <> status_to;
    end if;
    if truncated then
      custom_data_changed := coalesce((new ->> '$custom_data_changed')::boolean,
        (old ->> '$custom_data_changed')::boolean, false);
      updated := true;
      previous := '{' || case when status_changed
        then to_json(module.status_column)::text || ':' || status_from else '' end || '}';
    else
      -- Both rows come from one table, so they have the same columns in the same order.
      select '{' || string_agg(to_json(c.key)::text || ':' || c.was::text, ',') || '}',
        bool_or(c.key <> all (module.ignore_columns)), bool_or(c.key = module.custom_data_column)
      into previous, updated, custom_data_changed
      from rows from (json_each(old), json_each(new)) c (key, was, new_key, is_now)
      where c.was::text <> c.is_now::text;
      previous := collecta.unmask_escapes(previous);
    end if;
    events := array[case when updated then 'record_updated' end, case when status_changed then 'status_change' end,
      case when custom_data_changed then 'custom_data_updated' end];
  end;
  return row(module.version, module.slug, scope, coalesce(new_id, old_id), old_id <> new_id, events, status_from,
    status_to, previous, truncated, unroutable)::collecta.change_reading;
end
$$;
comment on function collecta.read_change is
  'Reads an outbox row by the module version under which it was captured, or by the current one (read_by): which '
  'record, which events, and the parts of their payloads. A change without events was muted or cannot be routed.';
--! EndIncluded outbound/2_route/internal/read_change.sql
--! Included outbound/2_route/internal/recipients.sql
-- route_changes keeps the result while module, operation and scope stay the same.
create or replace function collecta.recipients(
  module_id int, operation collecta.operation, scope text, present timestamptz, room collecta.claim_room
) returns collecta.recipient[]
language plpgsql stable
as $$
declare
  kinds constant text[] := case operation when 'I' then array['record_created']
    when 'U' then array['record_updated', 'status_change', 'custom_data_updated'] else array['record_deleted'] end;
  -- This builds arrays without aggregates. Preparing an aggregate would take longer than finding a few rows.
  found_some constant collecta.recipient[] := array(
    select row(array_position(kinds, s.event), e.payload_role, e.endpoint_id, s.after_change_id, e.filter, e.ordered,
      case when room.deliveries > 0 and e.state = 'active' and not e.ordered
        and e.endpoint_id <> all (room.except_endpoints)
        and exists (select from collecta.endpoint_secrets x where x.endpoint_id = e.endpoint_id)
        and num_nonnulls(f.pace, f.max_per_second, f.learned_per_second) = 0 and (f.held_until > present) is not true
      then
        -- How many more may be in flight, if everything that is due is counted as being in flight.
        e.max_in_flight - cardinality(array(
          select 1 from collecta.delivery_queue q
          where q.endpoint_id = e.endpoint_id and q.due_at <= present
            and q.due_at >= coalesce((room.due_from ->> e.endpoint_id)::timestamptz, '-infinity')
          limit e.max_in_flight))
      else 0 end)::collecta.recipient
    from (
      -- Two index scans and no OR, so that ten thousand tenants' endpoints cost as much as one tenant's.
      select s.event, s.endpoint_id, s.after_change_id from collecta.subscriptions s
      where s.module_id = recipients.module_id and s.event = any (kinds) and s.scope is null
      union all
      select s.event, s.endpoint_id, s.after_change_id from collecta.subscriptions s
      where s.module_id = recipients.module_id and s.event = any (kinds) and s.scope = recipients.scope) s
    join collecta.endpoints e on e.endpoint_id = s.endpoint_id
    left join collecta.endpoint_flow f on f.endpoint_id = e.endpoint_id
    where e.state <> 'deleted'
    order by array_position(kinds, s.event), e.payload_role, e.endpoint_id);
  each collecta.recipient;
  complete int := 0; -- the number of the last event up to which each has a recipient without a role
begin
  if operation <> 'U' and (found_some[1]).payload_role = '' then
    return found_some;
  end if;
  foreach each in array found_some loop
    if each.payload_role = '' and each.event_number = complete + 1 then
      complete := complete + 1;
    end if;
  end loop;
  if complete = cardinality(kinds) then
    return found_some;
  end if;
  -- An event to which anybody subscribes is written, before scope and filter, with the body of an endpoint without a
  -- role.
  return array(
    select row(r.*)::collecta.recipient from (
      select * from unnest(found_some)
      union all
      select array_position(kinds, s.event), '', null, min(s.after_change_id), null, false, null
      from collecta.subscriptions s
      where s.module_id = recipients.module_id and s.event = any (kinds)
      group by s.event) r
    order by r.event_number, r.payload_role, r.endpoint_id);
end
$$;
comment on function collecta.recipients is
  'Endpoints that subscribe to what an operation means, event by event, before filters.';
--! EndIncluded outbound/2_route/internal/recipients.sql
--! Included outbound/2_route/internal/route_changes.sql
-- From changes to events and queue rows, after the commit: what can be slow, fail or grow with the number of endpoints
-- happens here and not in the user's transaction. One router at a time, in the outbox's order; no SKIP LOCKED, since
-- what it skipped would be overtaken. It ends by number, bytes and time, so that neither a slow filter nor a large
-- record holds up claims for long.
-- It reads change after change, collects events and deliveries in arrays, and writes them with one statement at the
-- end. One large statement instead would take 2 ms to set up, also for a single change.
create or replace function collecta.route_changes(
  max_changes int default 250,
  from_change bigint default 0,
  settled_change bigint default 0,
  in_order pg_snapshot default null,
  only_change bigint default null,
  without_filters text default null,
  room collecta.claim_room default null
) returns collecta.routed_changes
language plpgsql volatile security definer
-- Its callers set how its statements are planned: each setting costs every call.
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  began timestamptz;
  change collecta.outbox;
  module collecta.module_versions; -- that the change was captured under
  reading collecta.change_reading;
  recipients collecta.recipient[]; -- of an operation on a module in a scope:
  operation collecta.operation;
  version int;
  scope text;
  recipient collecta.recipient;
  event_number int; -- among the events of the change, from 1; the recipients of one event follow each other
  payload_role text;
  event_id text;
  captured_us bigint; -- captured_at in microseconds since 1970
  extras text; -- the end of the payloads, from event_extras; most changes have none
  body text; -- null: it is no event, or none to this payload_role
  matches boolean;
  reason text; -- why its filter cannot tell
  is_leased boolean;
  locked text; -- not used
  -- What is to be written.
  events collecta.events[];
  deliveries collecta.routed_delivery[];
  taken bigint[];
  slice_is_full boolean := false; -- no more changes now
  aside bigint[]; -- of these: what is no event (muted, unroutable)
  bytes bigint;
  delivery_id bigint;
  leased text[]; -- the deliveries that are born leased, for the claim's answer
  endpoint_ids text[]; -- of what is leased
  leased_number int := 0;
  leased_bytes bigint := 0;
  least_free int; -- the smallest free of the recipients of what is leased
  awaited boolean; -- an endpoint gets as many as may be in flight
  reordered int[]; -- module versions whose changes are put in order apart, and not routed until then
  stopped_at bigint; -- a change that must be put in order first
  in_order_for bigint; -- the last one for which that was tried
  next_change bigint;
  ordered_endpoints text[]; -- of the deliveries to ordered endpoints, and their records
  ordered_records bigint[];
begin
  if not pg_try_advisory_xact_lock(1668246636, 2) then
    return row(-1, null, null, in_order, null, null, null, null, null, null, null)::collecta.routed_changes;
  end if;
  if room.deliveries > 0 then
    -- One claim at a time. What follows are new statements, so their snapshots contain the last claim. An assignment
    -- costs less than PERFORM.
    locked := pg_advisory_xact_lock(1668246636, 3);
  end if;
  -- Taken under the lock and so never before an earlier router's: due_at is in the order of routing.
  began := clock_timestamp();
  if from_change > settled_change and only_change is null then
    if exists (select from collecta.outbox o where o.change_id >= settled_change and o.change_id < from_change) then
      -- A writer that took its change_id before the hint and committed after it was overtaken; what it did comes first.
      from_change := settled_change;
    end if;
  end if;

  loop
    if reordered is not null or exists (select from collecta.reorderings) then
      -- Their changes are put in order apart. An order that was found before the last of these ended is not known.
      select array_agg(v.version) filter (where r.ended_in is null),
        case when bool_and(r.ended_in is null or pg_visible_in_snapshot(r.ended_in, in_order)) is not false
          then in_order end
      into reordered, in_order
      from collecta.reorderings r
      join collecta.module_versions v on v.module_id = r.module_id;
    end if;
    for change in
      select * from collecta.outbox o
      where o.change_id >= from_change and o.change_id <= coalesce(only_change, 9223372036854775807)
        and (reordered is null or o.version <> all (reordered))
      order by o.change_id limit max_changes
    loop
      if taken is not null then
        -- A large slice needs fewer commits, but what was leased is to be sent soon.
        slice_is_full := bytes > 8000000 or leased_number > 0 and cardinality(taken) >= 250
          or clock_timestamp() > began + interval '200 ms';
        exit when slice_is_full;
      end if;
      if module.version is distinct from change.version then
        select * into module from collecta.module_versions v where v.version = change.version;
      end if;
      reading := collecta.read_change(module, change.operation, change.old, change.new);
      if reading.changes_key or change.trigger_depth > 1
          and (in_order is null or not pg_visible_in_snapshot(change.transaction_id, in_order)) then
        stopped_at := change.change_id;
        exit;
      end if;
      taken := taken || change.change_id;
      if reading.events is null then
        aside := aside || change.change_id;
        continue;
      end if;
      if operation is distinct from change.operation or version is distinct from reading.read_by
          or scope is distinct from reading.scope then
        operation := change.operation;
        version := reading.read_by;
        scope := reading.scope;
        recipients := collecta.recipients(module.module_id, operation, scope, began, room);
      end if;

      captured_us := date_part('epoch', change.captured_at) * 1000000;
      extras := '';
      if change.context <> '' or change.traceparent <> '' or operation = 'T' or reading.truncated then
        extras := collecta.event_extras(change, reading.truncated);
      end if;
      event_number := null;
      foreach recipient in array coalesce(recipients, '{}') loop
        continue when reading.events[recipient.event_number] is null or recipient.after_change_id >= change.change_id;
        if event_number is distinct from recipient.event_number or payload_role <> recipient.payload_role then
          -- One body for an event, and one more for each payload_role that an endpoint has.
          event_number := recipient.event_number;
          payload_role := recipient.payload_role;
          event_id := collecta.event_id(change.change_id, operation, captured_us, change.transaction_id, event_number);
          if payload_role = '' then
            body := collecta.event_body(event_id, reading.events[event_number], change.change_id, change.captured_at,
              reading.slug, to_json(reading.record_id)::text, reading.status_from, reading.status_to,
              collecta.event_record(operation, change.old, change.new, reading.truncated), reading.previous,
              extras);
          else
            body := collecta.event_body_for_role(payload_role, event_id, reading.events[event_number], change, reading,
              extras);
          end if;
          if body is not null then
            bytes := coalesce(bytes, 0) + octet_length(body);
            events := events || row(event_id, payload_role, began, change.change_id, event_number - 1, reading.slug,
              reading.events[event_number], reading.record_id, scope, change.captured_at, body)::collecta.events;
          end if;
        end if;
        continue when body is null or recipient.endpoint_id is null;
        if recipient.filter is not null then
          matches := false;
          reason := without_filters;
          if reason is null then
            select f.matches, f.reason into matches, reason from collecta.try_filter(body, recipient.filter) f;
          end if;
          if reason is not null then
            insert into collecta.unrouted (change_id, position, endpoint_id, module, record_id, record_key, event_id,
              payload_role, routed_at, reason, set_aside_at)
            values (change.change_id, event_number - 1, recipient.endpoint_id, reading.slug, reading.record_id,
              collecta.record_key(reading.slug, reading.record_id), event_id, payload_role, began, reason, began);
          end if;
          continue when not matches;
        end if;
        delivery_id := nextval('collecta.delivery_queue_delivery_id_seq');
        is_leased := cardinality(events) <= least(recipient.free, room.per_endpoint)
          and leased_number < room.deliveries and leased_bytes < room.bytes;
        if is_leased then
          leased_number := leased_number + 1;
          leased_bytes := leased_bytes + octet_length(body);
          least_free := least(least_free, recipient.free);
          leased := leased
            || collecta.claimed_delivery(delivery_id, recipient.endpoint_id, event_id, awaited => false, body => body);
          endpoint_ids := endpoint_ids || recipient.endpoint_id;
        end if;
        if recipient.ordered then
          ordered_endpoints := ordered_endpoints || recipient.endpoint_id;
          ordered_records := ordered_records || collecta.record_key(reading.slug, reading.record_id);
        end if;
        deliveries := deliveries || row(delivery_id, change.change_id, event_number - 1, recipient.endpoint_id,
          event_id, payload_role,
          case when recipient.ordered then ordered_records[cardinality(ordered_records)] end,
          octet_length(body), cardinality(events), recipient.free, is_leased)::collecta.routed_delivery;
      end loop;
    end loop;
    exit when taken is not null or stopped_at is null;
    if in_order_for = stopped_at then
      -- put_in_order could not read the key that was read here.
      perform collecta.set_aside_change(stopped_at, 'the order of its statement cannot be told');
    else
      in_order := coalesce(
        collecta.put_in_order(stopped_at, collecta.changes_of_keys(stopped_at, max_changes)), in_order);
      in_order_for := stopped_at;
    end if;
    stopped_at := null;
  end loop;

  if aside is not null then
    perform collecta.route_aside(aside);
  end if;
  if taken is not null then
    with gone as (
      delete from collecta.outbox o where o.change_id = any (taken)
    ), written as (
      insert into collecta.events select * from unnest(events)
    )
    insert into collecta.delivery_queue (delivery_id, change_id, position, endpoint_id, event_id, payload_role,
      routed_at, due_at, record_key, bytes, leased_until, runner)
    overriding system value
    select d.delivery_id, d.change_id, d.position, d.endpoint_id, d.event_id, d.payload_role, began,
      case when d.record_key is null then began else 'infinity' end, d.record_key, d.bytes,
      case when d.is_leased then room.leased_until end, case when d.is_leased then room.runner end
    from unnest(deliveries) d;
    awaited := cardinality(events) >= least_free;
    if awaited then
      leased := array(
        select collecta.claimed_delivery(d.delivery_id, d.endpoint_id, d.event_id, cardinality(events) >= d.free,
          (events[d.event]).body)
        from unnest(deliveries) d where d.is_leased);
    end if;
    if ordered_endpoints is not null then
      perform collecta.promote_next(ordered_endpoints, ordered_records);
    end if;
    next_change := taken[cardinality(taken)] + 1;
  elsif from_change = 0 and only_change is null and clock_timestamp() > began + interval '5 ms' then
    -- The scan met only dead rows that an old snapshot keeps. Their end is known if no writer holds an id among them.
    next_change := collecta.last_change_id() + 1;
    if exists (select from pg_locks l where l.relation = 'collecta.outbox'::regclass and l.mode = 'RowExclusiveLock'
          and l.pid is distinct from pg_backend_pid()
          and l.database = (select d.oid from pg_database d where d.datname = current_database()))
        or exists (select from collecta.outbox o where o.change_id < next_change) then
      next_change := 0;
    end if;
  else
    next_change := from_change;
  end if;
  if reordered is not null then
    next_change := from_change; -- They come before what was routed now.
  end if;
  return row(coalesce(cardinality(taken), 0), next_change,
    slice_is_full or stopped_at is not null or cardinality(taken) >= max_changes, in_order,
    array_to_string(leased, chr(30)), leased_number, leased_bytes, endpoint_ids, awaited,
    leased_number < coalesce(cardinality(deliveries), 0), reordered is not null)::collecta.routed_changes;
end
$$;
comment on function collecta.route_changes is
  'Turns captured changes into events and queue rows; claim_deliveries calls it. from_change is a hint where to begin
(0: the whole); from settled_change on, a hint for where records are in order, a change may still appear before it; what
is visible in in_order is in order (put_in_order). only_change routes one change alone; without_filters, a reason, sets
aside what filters would have to judge. room: what may be born leased. routed is -1 while another session routes; more:
it ended before the outbox did; next_change is the next call''s hint; waiting: more became due than was leased.';
--! EndIncluded outbound/2_route/internal/route_changes.sql
--! Included outbound/3_claim/runner/claim_deliveries.sql
-- Routes changes, then claims what is due, in one round trip. What is rarely needed is a statement or a function of its
-- own, so that a claim of one change does not pay for it. Assignments are combined into few expressions, because each
-- expression is set up again in every transaction.
create or replace function collecta.claim_deliveries(
  batch int,
  batch_bytes bigint default 8000000,
  per_endpoint int default 10000,
  environment text default null,
  runner int default null,
  cursor text default null,
  except_endpoints text[] default '{}',
  everything boolean default false
) returns collecta.claim_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off
set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '2s'
as $$
#variable_conflict use_variable
declare
  began constant timestamptz := clock_timestamp();
  hints collecta.claim_cursor := claim_deliveries.cursor::collecta.claim_cursor;
  whole constant boolean := everything or coalesce(began >= hints.whole_due or began < hints.whole_at, true);
  lease interval;
  is_right_database boolean; -- the one that deliveries are to be made for
  any_ordered boolean;
  routing collecta.routed_changes;
  trouble text; -- why nothing could be routed
  chosen collecta.due_deliveries;
  found_deliveries boolean;
  endpoints json;
  found_some boolean;
  next text;
  wait_ms int;
begin
  -- check_installation says why, and remembers for the session which database this is.
  select s.lease, i.identity = current_setting('collecta.identity', true)
      and i.environment is not distinct from environment,
    exists (select from collecta.endpoints e where e.ordered and e.state <> 'deleted')
  into lease, is_right_database, any_ordered
  from collecta.settings s, collecta.installation i;
  if is_right_database is not true then
    perform collecta.check_installation(environment);
  end if;

  if everything or coalesce(began >= hints.route_due, true) then
    begin
      routing := collecta.route_changes(
        max_changes => 1000,
        from_change => case when whole then 0 else coalesce(hints.from_change, 0) end,
        settled_change => case when any_ordered then coalesce(hints.settled_change, 0) else 9223372036854775807 end,
        in_order => hints.in_order,
        room => row(batch, batch_bytes, per_endpoint, except_endpoints, case when not whole then hints.due_from end,
          began + lease, runner)::collecta.claim_room);
    exception when others then
      -- What is queued already is delivered all the same; the runner finds out whether a change is to blame.
      trouble := sqlstate || ' ' || sqlerrm;
      hints.route_due := clock_timestamp() + interval '1 s';
      insert into collecta.routing_trouble as t (sqlstate, reason) values (left(trouble, 5), substr(trouble, 7))
      on conflict on constraint routing_trouble_pkey
        do update set seen_at = clock_timestamp(), sqlstate = excluded.sqlstate, reason = excluded.reason;
    end;
  end if;
  if whole or routing.waiting or routing.leased is null
      or coalesce(began not between hints.choose_due - interval '50 ms' and hints.choose_due, true) then
    chosen := collecta.claim_due(hints, row(batch - coalesce(routing.leased_number, 0),
      batch_bytes - coalesce(routing.bytes, 0), per_endpoint, except_endpoints,
      case when whole then '{}' else hints.due_from end, began + lease, runner)::collecta.claim_room, everything,
      routing_works => routing.routed >= 0);
    hints := chosen.hints;
  end if;
  found_deliveries := routing.leased is not null or chosen.leased is not null;
  if found_deliveries then
    endpoints := to_json(array(
      select json_build_object('endpoint_id', e.endpoint_id, 'url', e.url, 'headers', s.headers,
        'secrets', case when s.previous_until > began then array[s.previous_secret, s.secret] else array[s.secret] end,
        'begin_within_ms', (chosen.limits #>> array[e.endpoint_id, '2'])::int)
      from collecta.endpoints e
      join collecta.endpoint_secrets s on s.endpoint_id = e.endpoint_id
      where e.endpoint_id = any (routing.endpoint_ids || chosen.endpoint_ids)));
  end if;

  found_some := coalesce(routing.routed > 0, false) or found_deliveries;
  if hints.found_nothing and not found_some and not whole and trouble is null then
    if began >= hints.whole_at + 4 * hints.whole_cost then
      -- For the second time nothing. Before it says so, it looks at the whole, for a fifth of the time at most. Not the
      -- first time, since a runner that sleeps between two changes of a busy writer makes the writer notify.
      hints.whole_at := null;
      return collecta.claim_deliveries(batch, batch_bytes, per_endpoint, environment, runner, hints::text,
        except_endpoints);
    end if;
  end if;

  -- The next claim's hints.
  if routing.more or routing.next_change > coalesce(hints.from_change, 0) then
    hints.from_change := routing.next_change;
  end if;
  if whole then
    hints.whole_at := began;
    hints.whole_cost := clock_timestamp() - began;
    hints.whole_due := began + greatest(interval '1 s', 20 * hints.whole_cost);
    if not routing.more and hints.oldest_xid >= hints.unsettled_xid then
      hints.settled_change := hints.unsettled_change;
      hints.unsettled_xid := null;
    end if;
  end if;
  if any_ordered then
    if hints.unsettled_xid is null then
      hints.unsettled_change := coalesce(hints.from_change, 0);
      hints.unsettled_xid := pg_snapshot_xmax(pg_current_snapshot());
    end if;
    hints.oldest_xid := pg_snapshot_xmin(pg_current_snapshot());
  end if;
  hints.in_order := routing.in_order;
  if routing.awaited then
    hints.choose_due := null;
  end if;
  hints.found_nothing := not found_some;

  if routing.more or chosen.cut then
    next := 'now';
  elsif found_some then
    next := 'soon';
  elsif chosen.is_saturated then
    next := 'when_recorded';
  elsif whole and routing.routed >= 0 then
    next := 'sleep';
  else
    next := 'wait';
    wait_ms := case when trouble is null then 2 else 1000 end;
  end if;
  if chosen.again_at is not null then
    wait_ms := greatest(1, least(wait_ms, ceil(extract(epoch from chosen.again_at - clock_timestamp()) * 1000)));
  end if;
  return row(date_part('epoch', began + lease) * 1000000, date_part('epoch', lease) * 1000,
    case when found_deliveries then concat_ws(chr(30), routing.leased, chosen.leased) end, coalesce(endpoints, '[]'), coalesce(routing.routed, 0), next, wait_ms, coalesce(routing.reordering, false), trouble,
    hints::text)::collecta.claim_result;
end
$$;
comment on function collecta.claim_deliveries is
  'For runners: routes a slice of the outbox, then claims up to batch deliveries that are due, of batch_bytes at most
(one at least). Answers one row, collecta.claim_result. endpoints is an array of objects; where a rate limits an
endpoint, begin_within_ms says to give its deliveries back if they cannot begin so soon. next: now; soon (something was
found); when_recorded (what is due waits for what is in flight); wait (wait_ms); sleep (all was looked at, nothing is
there). everything: do not trust the cursor to know where nothing is. Record each delivery with record_deliveries before
its lease has passed, or it is claimed again.';
--! EndIncluded outbound/3_claim/runner/claim_deliveries.sql
--! Included install/pin_settings.sql
-- A function runs with the settings of the calling role and database, which may be unusual. So the functions that other
-- roles call get the settings that their code relies on. Functions that only these call inherit them. A call from
-- outside costs some microseconds more. This runs at the end of every migration.
do $$
declare
  entry record;
  pins constant text :=
    'set array_nulls = on set bytea_output = hex set "DateStyle" = ''ISO, MDY'' set extra_float_digits = 1 '
    'set "IntervalStyle" = postgres set quote_all_identifiers = off set standard_conforming_strings = on '
    'set "TimeZone" = ''UTC'' set transform_null_equals = off set xmlbinary = base64';
  -- These functions write into the user's tables. Where write_inbound_<n> does not fix DateStyle, TimeZone and similar
  -- settings, the table's defaults and triggers must see those of the login that receives.
  pins_of_inbound constant text :=
    'set array_nulls = on set quote_all_identifiers = off set standard_conforming_strings = on '
    'set transform_null_equals = off';
begin
  for entry in
    select p.oid::regprocedure as routine,
      p.proname in ('receive_inbound', 'test_inbound_mapping') as writes
    from pg_catalog.pg_proc p
    where p.pronamespace = 'collecta'::regnamespace and p.proname in (
      'attach_module', 'attach_partitions', 'attach_shards', 'check_health', 'check_installation',
      'claim_deliveries', 'create_endpoint', 'create_inbound_endpoint', 'delete_endpoint',
      'delete_inbound_endpoint', 'detach_module', 'disable_copy', 'encodable_characters', 'end_leases',
      'find_inbound_endpoint', 'let_capture_read', 'maintain', 'maintain_inbound', 'next_due_in_ms',
      'next_inbound_retries',
      'note_action', 'observe', 'pause_endpoint', 'pause_inbound_endpoint', 'promote_next', 'read_figures',
      'receive_inbound', 'record_deliveries', 'release_deliveries', 'replay_delivery', 'replay_undelivered',
      'restrict_login', 'resume_after_restore', 'resume_endpoint', 'resume_inbound_endpoint', 'retry_inbound',
      'rotate_inbound_secret', 'rotate_inbound_token', 'rotate_secret', 'route_again', 'sealing_keys',
      'send_test_event', 'test_inbound_mapping', 'unrestrict_login', 'update_endpoint', 'update_inbound_endpoint',
      'wake_runner', 'write_capture_functions')
  loop
    execute format('alter routine %s %s', entry.routine,
      case when entry.writes then pins_of_inbound else pins end);
  end loop;
end
$$;
--! EndIncluded install/pin_settings.sql
--! Included install/grants.sql
-- The last step of every migration. restore_grants revokes what default privileges have granted on new objects.
do $$
begin
  perform collecta.maintain();
  -- All functions of modules and of inbound endpoints are written again, from the templates of this version.
  perform collecta.resolve_modules(anew => true);
  perform collecta.mend_inbound(anew => true);
  perform collecta.own_views();
  perform collecta.restore_grants(exactly => true);
end
$$;
reset role;
--! EndIncluded install/grants.sql
