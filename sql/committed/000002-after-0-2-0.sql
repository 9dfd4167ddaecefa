--! Previous: sha1:eac230193feed47e3a6bb21d2a925f89efe622b3
--! Hash: sha1:821f03221ae0552b2a042fcdc680a15f4fd1c60b
--! Message: after 0.2.0

--! Included modules/internal/check_module.sql
create or replace function collecta.check_module(
  relation regclass, slug text, status_column text, custom_data_column text, scope_column text,
  exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text
) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  class pg_catalog.pg_class;
  keys text[];
  why text;
  hint text;
  wrong text[];
  other collecta.modules;
  configured text[];
  known text[];
begin
  if relation is null or slug is null then
    raise exception using errcode = 'CW002', message = 'attach_module needs a table and a slug',
      detail = 'One of them is null.', hint = 'select collecta.attach_module(''public.work_orders'', ''work-orders'');';
  end if;
  if slug !~ '^[a-z0-9][a-z0-9_-]{0,62}$' collate "C" then
    raise exception using errcode = 'CW006', message = format('%L is not a valid slug', slug),
      detail = 'A slug is 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or digit.',
      hint = collecta.attach_call(relation, coalesce(nullif(btrim(left(regexp_replace(lower(slug collate "C"),
        '[^a-z0-9_]+', '-', 'g'), 63), '-_'), ''), 'work-orders'), status_column, custom_data_column, scope_column,
        exclude_columns, ignore_columns, key_columns, on_truncate);
  end if;

  select * into class from pg_catalog.pg_class c where c.oid = relation;
  select m.* into other from collecta.modules m
  join pg_catalog.pg_partition_tree(check_module.relation) p on p.relid = m.relation
  where m.relation <> check_module.relation limit 1;
  why := case
    when class.relkind not in ('r', 'p') then 'it is not a table but '
      || case class.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
        when 'i' then 'an index' when 'S' then 'a sequence' else 'a relation of another kind' end
      || ', on which no statement trigger sees rows'
    when class.relpersistence = 't' then 'it is temporary'
    when class.relnamespace in (select n.oid from pg_catalog.pg_namespace n
        where n.nspname in ('pg_catalog', 'information_schema') or n.nspname like 'collecta%')
      then 'it is a system table'
    when class.relkind = 'r' and exists (select from pg_catalog.pg_inherits i where i.inhparent = relation)
      then 'it has inheritance children, whose rows fire nothing of the parent'
    when not class.relispartition and exists (select from pg_catalog.pg_inherits i where i.inhrelid = relation)
      then 'it inherits from another table'
    when exists (select from pg_catalog.pg_subscription_rel s
        where s.srrelid in (select relation union select p.relid from pg_catalog.pg_partition_tree(relation) p))
      then 'logical replication writes it, and its apply fires no statement trigger'
    when class.relispartition then 'it is a partition: what is written through its parent fires nothing of it'
    when other.module_id is not null then 'one of its partitions is attached already'
  end;
  if why is not null then
    hint := case
      when class.relkind in ('v', 'm') then (
        -- The first table that the view reads.
        select collecta.attach_call(d.refobjid::regclass, slug, null, null, null, null, null, null, null)
        from pg_catalog.pg_rewrite r
        join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
          and d.refclassid = 'pg_catalog.pg_class'::regclass
        join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
        where r.ev_class = relation limit 1)
      when why like 'logical replication%' then
        'select subname, subpublications from pg_catalog.pg_subscription; -- attach it there, on the publisher'
      when exists (select from collecta.modules m where m.relation = pg_partition_root(check_module.relation)) then
        format('select * from collecta.modules where relation = %L::regclass; '
          '-- captures the rows of this partition, too', pg_partition_root(relation))
      when class.relispartition and class.relkind in ('r', 'p') then
        collecta.attach_call(pg_partition_root(relation), slug, status_column, custom_data_column, scope_column,
          exclude_columns, ignore_columns, key_columns, on_truncate)
      when other.module_id is not null then format('select collecta.detach_module(%L); ', other.slug)
        || collecta.attach_call(relation, slug, status_column, custom_data_column, scope_column,
          exclude_columns, ignore_columns, key_columns, on_truncate)
    end;
    raise exception using errcode = 'CW002', message = format('%s cannot be attached', relation),
      detail = format('Because %s.', why),
      hint = coalesce(hint, 'select schemaname, tablename from pg_catalog.pg_tables '
        'where schemaname !~ ''^(pg_|information_schema|collecta)''; -- tables that can be');
  end if;
  select m.* into other from collecta.modules m
  where (m.slug = check_module.slug) <> (m.relation = check_module.relation) limit 1;
  if found then
    raise exception using errcode = 'CW005', message = format('%s and slug %L cannot be combined', relation, slug),
      detail = format('%s is attached as module %L; a table has one slug and a slug one table.',
        other.relation, other.slug),
      hint = format('select collecta.detach_module(%L); -- then the same call again, or choose another slug',
        other.slug);
  end if;
  if on_truncate is null or on_truncate not in ('records', 'ignore', 'refuse') then
    raise exception using errcode = 'CW004', message = format('on_truncate cannot be %L', on_truncate),
      detail = 'records: a record_deleted for each; ignore: nothing; refuse: TRUNCATE fails.',
      hint = collecta.attach_call(relation, slug, status_column, custom_data_column, scope_column,
        exclude_columns, ignore_columns, key_columns, 'records');
  end if;

  -- The key is the primary key, or a named unique key that is checked immediately and holds no null. A deferrable key
  -- would let a create be captured before the delete that made room for it.
  if key_columns is null then
    keys := (select k.columns from collecta.keys_of(relation) k where k.is_primary);
  elsif exists (select from collecta.keys_of(relation) k
      where k.columns @> check_module.key_columns and k.columns <@ check_module.key_columns
        and cardinality(k.columns) = cardinality(check_module.key_columns)) then
    keys := key_columns;
  end if;
  if keys is null then
    raise exception using errcode = 'CW003',
      message = case when key_columns is null then format('%s has no primary key to tell its records apart', relation)
        else format('(%s) is not a key of %s', array_to_string(key_columns, ', '), relation) end,
      detail = case when exists (select from pg_catalog.pg_index i
          where i.indrelid = relation and i.indisunique and not i.indimmediate)
        then 'A deferrable key does not do: a create could be captured before the delete that made room for it. '
        else '' end
        || 'A key is a unique constraint or index over columns that are not null, not partial and not deferrable.',
      hint = coalesce(
        (select collecta.attach_call(relation, slug, status_column, custom_data_column, scope_column, exclude_columns,
           ignore_columns, case when not k.is_primary then k.columns end, on_truncate)
         from collecta.keys_of(relation) k order by k.is_primary desc limit 1),
        collecta.add_key_call(relation));
  end if;

  configured := array_remove(
    keys || nullif(status_column, '') || nullif(custom_data_column, '') || nullif(scope_column, ''), null);
  known := array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped order by a.attnum);
  wrong := array(
    select c from unnest(configured || exclude_columns || ignore_columns) c where c <> all (known) or c is null);
  if wrong <> '{}' then
    raise exception using errcode = 'CW004',
      message = format('%s has no column %s', relation, array_to_string(wrong, ', ', 'null')),
      detail = format('Its columns: %s.', array_to_string(known, ', ')),
      hint = collecta.attach_call(relation, slug,
        case when status_column = any (known) then status_column end,
        case when custom_data_column = any (known) then custom_data_column end,
        case when scope_column = any (known) then scope_column end,
        array(select c from unnest(exclude_columns) c where c = any (known)),
        array(select c from unnest(ignore_columns) c where c = any (known)), key_columns, on_truncate);
  end if;
  wrong := array(select c from unnest(configured) c where c = any (exclude_columns));
  if wrong <> '{}' then
    raise exception using errcode = 'CW004',
      message = format('column %s is configured and excluded at once', array_to_string(wrong, ', ')),
      detail = 'Key, status, custom data and scope columns are needed to route a change.',
      hint = collecta.attach_call(relation, slug, status_column, custom_data_column, scope_column,
        array(select c from unnest(exclude_columns) c where c <> all (wrong)), ignore_columns, key_columns,
        on_truncate);
  end if;
  wrong := array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attgenerated = 'v' and not a.attisdropped);
  if wrong && configured then
    raise exception using errcode = 'CW004',
      message = format('a virtual generated column cannot be configured: %s', array_to_string(wrong, ', ')),
      detail = 'A trigger sees no value of it. Make it a stored generated column, or name another.',
      hint = collecta.attach_call(relation, slug, case when status_column <> all (wrong) then status_column end,
        case when custom_data_column <> all (wrong) then custom_data_column end,
        case when scope_column <> all (wrong) then scope_column end,
        exclude_columns, ignore_columns, key_columns, on_truncate);
  end if;
  if wrong <> '{}' then
    raise notice 'collecta: virtual generated column % is left out of payloads: a trigger sees no value of it',
      array_to_string(wrong, ', ');
  end if;
  return keys;
end
$$;
comment on function collecta.check_module(regclass, text, text, text, text, text[], text[], text[], text) is
  'Raises an error, with a hint, if attach_module cannot capture the table. Returns the columns of the key.';

-- It has no SET clause, so that PostgreSQL can inline it into a query over many modules.
create or replace function collecta.keys_of(relation regclass) returns table (columns text[], is_primary boolean)
language sql stable
as $$
  select pg_catalog.array_agg(a.attname::text order by k.ordinality), i.indisprimary
  from pg_catalog.pg_index i
  cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality k (attnum, ordinality)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = relation and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null
    and i.indexprs is null and k.ordinality <= i.indnkeyatts
  group by i.indexrelid, i.indisprimary
  having pg_catalog.bool_and(a.attnotnull)
$$;
comment on function collecta.keys_of(regclass) is
  'Returns the keys that identify the records of a table: unique, not null, not partial and not deferrable.';

create or replace function collecta.add_key_call(relation regclass) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select format('alter table %s %s;', relation, case
    when exists (select from pg_catalog.pg_index i where i.indrelid = relation and i.indisprimary) then
      (select format('drop constraint %I, add primary key (%s)', c.conname, (
          select string_agg(quote_ident(a.attname), ', ' order by k.ordinality)
          from unnest(c.conkey) with ordinality k (attnum, ordinality)
          join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum))
       from pg_catalog.pg_constraint c where c.conrelid = relation and c.contype = 'p')
    else (select format('add column %I uuid not null default gen_random_uuid(), add primary key (%s)', name,
        concat_ws(', ', (
          select string_agg(quote_ident(a.attname), ', ')
          from pg_catalog.pg_partitioned_table t
          cross join unnest(t.partattrs::int2[]) k (attnum)
          join pg_catalog.pg_attribute a on a.attrelid = t.partrelid and a.attnum = k.attnum
          where t.partrelid = relation), quote_ident(name)))
      from unnest(array['id', 'record_id', 'collecta_id', 'collecta_key']) with ordinality n (name, place)
      where not exists (select from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = name)
      order by place limit 1) end)
$$;
comment on function collecta.add_key_call(regclass) is
  'Returns the statement that gives a table a primary key, for a hint.';

create or replace function collecta.capturing_role() returns name
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select collecta.written_owner('collecta_capture')
$$;
comment on function collecta.capturing_role() is 'Returns the role that owns the capture functions; see own_functions.';
--! EndIncluded modules/internal/check_module.sql
drop function collecta.check_endpoint(text, text[], text[], text, text, text, jsonb);
drop function collecta.check_endpoint_limits(int, interval, int, int);
--! Included endpoints/internal/check_endpoint.sql
create or replace function collecta.check_endpoint_id(endpoint_id text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  scopes constant text[] := collecta.visible_scopes();
begin
  if not exists (
    select from collecta.endpoints e
    where e.endpoint_id = check_endpoint_id.endpoint_id and e.state <> 'deleted'
      and (scopes is null or e.scope = any (scopes))
  ) then
    raise exception using errcode = 'CW010', message = format('there is no endpoint %L', endpoint_id),
      detail = case when scopes is not null then 'You are restricted to the endpoints of your scopes.'
        when exists (select from collecta.endpoints e where e.endpoint_id = check_endpoint_id.endpoint_id)
        then 'It was deleted.' else 'No endpoint ever had this id.' end,
      hint = 'select endpoint_id, name, url from collecta.endpoints where state <> ''deleted'';';
  end if;
end
$$;
comment on function collecta.check_endpoint_id(text) is
  'Raises CW010 if there is no such endpoint, it was deleted, or the caller is restricted to other scopes.';

create or replace function collecta.endpoint_call(endpoint_id text, url text, events text[], options text)
returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when endpoint_id is null
      then format('select * from collecta.create_endpoint(%L, %L%s);', url, events, ', ' || nullif(options, ''))
    else format('select collecta.update_endpoint(%L, %s);', endpoint_id, options) end
$$;
comment on function collecta.endpoint_call(text, text, text[], text) is
  'Returns a call for a hint: of update_endpoint, or of create_endpoint if endpoint_id is null. options are named '
  'arguments. Hints are logged, so they contain no secret and no value of a header.';

create or replace function collecta.url_problem(url text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  port constant int := substring(url from '^https?://[^/?]*:([0-9]{1,5})(?:[/?]|$)')::int;
  -- The blocked ports of https://fetch.spec.whatwg.org/#port-blocking, which the runner refuses to connect to
  -- (src/outbound/destination.ts).
  blocked_ports constant int[] := (
    '{0,1,7,9,11,13,15,17,19,20,21,22,23,25,37,42,43,53,69,77,79,87,95,101,102,103,104,109,110,111,113,115,117,119,123,'
    '135,137,139,143,161,179,389,427,465,512,513,514,515,526,530,531,532,540,548,554,556,563,587,601,636,989,990,993,'
    '995,1719,1720,1723,2049,3659,4045,4190,5060,5061,6000,6566,6665,6666,6667,6668,6669,6679,6697,10080}')::int[];
begin
  return case
    when url is null then 'it is null'
    when length(url) > 2048 then 'it is longer than 2048 characters'
    when url !~ '^https?://' then 'it does not begin with https:// or http://'
    when url ~ '[[:space:][:cntrl:]\\]' collate "C" then 'it contains white space or a backslash'
    when url ~ '#' then 'it has a fragment (#...), which would not be sent'
    when url ~ '^https?://[^/?]*@' then 'it contains a user name or password'
    when url !~ '^https?://[^/?]' then 'it has no host'
    when url !~ '^https?://([^/?:\[\]%<>^|"`{}]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?].*)?$'
      or port > 65535 then 'its host or port is malformed'
    when port = any (blocked_ports) then format('port %s is reserved for another protocol than HTTP', port)
  end;
end
$$;
comment on function collecta.url_problem(text) is 'Why an endpoint cannot have this URL; null if it can.';

create or replace function collecta.check_endpoint(
  url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb,
  endpoint_id text default null
) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  event_names constant text[] := array['record_created', 'record_updated', 'record_deleted', 'status_change',
    'custom_data_updated'] || collecta.alert_events();
  known_events constant text[] := coalesce(
    nullif(array(select e from unnest(events) e where e = any (event_names)), '{}'),
    '{record_created,record_updated}');
  known_modules constant text[] := nullif(
    array(select m from unnest(modules) m where exists (select from collecta.modules k where k.slug = m)), '{}');
  -- For the hint: without white space, a fragment and credentials, and with a scheme.
  mended_url text := regexp_replace(regexp_replace(regexp_replace(
      url collate "C", '[[:space:]]|#.*$', '', 'g'), '^(https?://)[^/?]*@', '\1'),
    '^([A-Za-z0-9-]+\.[A-Za-z0-9.-]+)', 'https://\1');
  tables text;
  wrong text := collecta.url_problem(url);
begin
  if mended_url is null or collecta.url_problem(mended_url) is not null then
    mended_url := 'https://hooks.example.com/orders';
  end if;
  if wrong is not null then
    raise exception using errcode = 'CW011', message = 'not a valid URL for an endpoint',
      detail = format('The URL cannot be used: %s.', wrong),
      hint = collecta.endpoint_call(endpoint_id, mended_url, known_events,
          case when endpoint_id is not null then format('url => %L', mended_url) end)
        || case when url ~ '@' then ' -- credentials belong into headers' else '' end;
  end if;
  select string_agg(coalesce(quote_literal(e), 'null'), ', ') into wrong
  from unnest(events) e where e is null or e <> all (event_names);
  if wrong is not null or coalesce(events, '{}') = '{}' then
    raise exception using errcode = 'CW012',
      message = coalesce('unknown event ' || wrong, 'an endpoint needs at least one event'),
      detail = format('Events: %s.', array_to_string(event_names, ', ')),
      hint = collecta.endpoint_call(endpoint_id, url, known_events,
        case when endpoint_id is not null then format('events => %L', known_events) end);
  end if;
  select string_agg(coalesce(quote_literal(m), 'null'), ', ') into wrong
  from unnest(modules) m where m is null or not exists (select from collecta.modules known where known.slug = m);
  if wrong is not null or modules = '{}' then
    raise exception using errcode = 'CW013',
      message = coalesce('unknown module ' || wrong, 'an empty list of modules subscribes to nothing'),
      detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m),
                        'No table is attached.'),
      hint = collecta.endpoint_call(endpoint_id, url, events, case
          when known_modules is not null then format('modules => %L', known_modules)
          when endpoint_id is not null then 'all_modules => true' end)
        || case when known_modules is null then ' -- subscribes to all modules, future ones included' else '' end;
  end if;
  if not collecta.is_secret(secret) then
    raise exception using errcode = 'CW014', message = 'this secret cannot be used',
      detail = 'A secret has 1 to 512 printable characters. After whsec_ there must be base64. Only collecta-webhooks '
               'makes secrets that begin with sealed:.',
      hint = collecta.endpoint_call(endpoint_id, url, events, '') || ' -- generates a secret and returns it';
  end if;
  if filter <> '' then
    begin
      perform filter::jsonpath;
    exception when others then
      raise exception using errcode = 'CW015', message = 'the filter is not a valid SQL/JSON path', detail = sqlerrm,
        hint = 'select ''{"record": {"quantity": 12}}''::jsonb @@ ''$.record.quantity > 10''; '
          '-- is true of payloads that this filter lets pass';
    end;
  end if;
  if payload_role <> '' and to_regrole(quote_ident(payload_role)) is null then
    select string_agg(m.relation::regclass::text, ', ' order by m.slug) into tables
    from collecta.modules m where m.slug = any (modules) or modules is null;
    raise exception using errcode = 'CW016', message = format('there is no role %L', payload_role),
      detail = 'The payload has only the columns that this role may select.',
      hint = format('create role %I nologin;', payload_role)
        || coalesce(format(' grant select on %s to %I; -- or on some of their columns', tables, payload_role), '');
  end if;
  if jsonb_typeof(headers) is distinct from 'object' then
    raise exception using errcode = 'CW016', message = 'headers must be an object of strings',
      detail = format('This is %s.', coalesce('JSON of type ' || jsonb_typeof(headers), 'null')),
      hint = collecta.endpoint_call(endpoint_id, url, events, 'headers => ''{"x-tenant": "acme"}''');
  end if;
  select string_agg(quote_literal(h.key), ', ') into wrong
  from jsonb_each(headers) h
  where h.key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,128}$'
    or lower(h.key collate "C") ~ (
      '^(host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|http2-settings|'
      'webhook-.*|x-webhook-signature|user-agent|accept-encoding|traceparent)$')
    or jsonb_typeof(h.value) <> 'string' or (h.value #>> '{}') !~ '^[\x20-\x7e\t]*$' or length(h.value #>> '{}') > 4096;
  if wrong is not null then
    raise exception using errcode = 'CW016', message = format('header %s cannot be set', wrong),
      detail = 'A name must be an HTTP token, and must not be a header that the runner sets or that belongs to one '
               'connection (Host, Content-*, Transfer-Encoding, Connection, the signature headers ...). A value must '
               'be a string of printable ASCII without line breaks.',
      hint = collecta.endpoint_call(endpoint_id, url, events, 'headers => ''{}''')
        || ' -- with those headers that are allowed';
  end if;
end
$$;
comment on function collecta.check_endpoint(text, text[], text[], text, text, text, jsonb, text) is
  'Raises CW011 to CW016 if an option of an endpoint is not valid. It checks only the form of the URL. The runner '
  'checks where it leads.';

create or replace function collecta.check_endpoint_limits(
  endpoint_id text, url text, events text[], retry_max int, retry_base interval, max_in_flight int, max_per_second int
) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  rules text;
  mended text;
begin
  select string_agg(b.rule, '; '), string_agg(b.nearest, ', ') into rules, mended
  from (values
    (retry_max not between 0 and 20, 'retry_max is 0 to 20', 'retry_max => ' || least(greatest(retry_max, 0), 20)),
    (retry_base not between interval '0.1 s' and interval '1 day', 'retry_base is 0.1 seconds to 1 day',
      'retry_base => ' || quote_literal(least(greatest(retry_base, interval '0.1 s'), interval '1 day')::text)),
    (max_in_flight not between 1 and 10000, 'max_in_flight is 1 to 10000',
      'max_in_flight => ' || least(greatest(max_in_flight, 1), 10000)),
    (max_per_second not between 1 and 10000, 'max_per_second is 1 to 10000, or null for no limit',
      'max_per_second => ' || least(greatest(max_per_second, 1), 10000))) b (is_wrong, rule, nearest)
  where b.is_wrong;
  if rules is not null then
    raise exception using errcode = 'CW016', message = 'a limit of the endpoint is out of bounds',
      detail = rules || '.', hint = collecta.endpoint_call(endpoint_id, url, events, mended);
  end if;
end
$$;
comment on function collecta.check_endpoint_limits(text, text, text[], int, interval, int, int) is
  'Raises CW016 if a limit of an endpoint is out of bounds. Null is not checked.';

create or replace function collecta.is_secret(secret text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select secret is null or case
    when secret like 'sealed:%'
      then length(secret) <= 4096 and secret ~ '^sealed:v1:[0-9a-f]{8}:[A-Za-z0-9+/]{38,}={0,2}$'
    when secret like 'whsec\_%' then length(secret) <= 512
      and secret ~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)$'
    else length(secret) between 1 and 512 and secret !~ '[[:cntrl:]]' collate "C" end
$$;
comment on function collecta.is_secret(text) is
  'Whether a text can be a signing secret: printable characters, base64 after whsec_, and the right form after '
  'sealed:. Only the runner can tell whether a sealed one can be opened.';

-- src/outbound/echo.ts masks the same headers in the history, and a test compares the two.
create or replace function collecta.mask_headers(headers jsonb) returns jsonb
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(h.key, case
    when h.key ~* 'auth|cookie|token|secret|passw|key|session|signature|credential' collate "C"
      or h.value ~* '^(basic|bearer|digest|token|apikey) ' collate "C" then '***' else h.value end), '{}')
  from jsonb_each_text(headers) h
$$;
comment on function collecta.mask_headers(jsonb) is
  'Returns request headers as readers may see them. The value is *** if the name or the value of a header looks like '
  'a credential.';
--! EndIncluded endpoints/internal/check_endpoint.sql
--! Included endpoints/internal/new_secret.sql
create or replace function collecta.new_secret() returns text
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select 'whsec_' || encode(sha256(
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64')
$$;
comment on function collecta.new_secret() is
  'Returns whsec_ and 32 random bytes in base64. The bytes are the SHA-256 of 366 random bits.';

create or replace function collecta.rotate_secret(
  endpoint_id text,
  overlap interval default '24 hours',
  secret text default null
) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  new_secret constant text := coalesce(rotate_secret.secret, collecta.new_secret());
begin
  perform collecta.check_endpoint_id(rotate_secret.endpoint_id);
  if overlap is null or overlap < interval '0' or overlap > interval '90 days' then
    raise exception using errcode = 'CW016',
      message = format('the overlap cannot be %s', coalesce(overlap::text, 'null')),
      detail = 'During the overlap receivers can change from the old secret to the new one.',
      hint = format('select collecta.rotate_secret(%L, overlap => %L);', endpoint_id,
        least(greatest(coalesce(overlap, '1 day'), '0'), '90 days')::text);
  elsif not collecta.is_secret(new_secret) then
    raise exception using errcode = 'CW014', message = 'this secret cannot be used',
      detail = 'A secret has 1 to 512 printable characters. After whsec_ there must be base64.',
      hint = format('select collecta.rotate_secret(%L); -- generates a secret and returns it', endpoint_id);
  end if;
  update collecta.endpoint_secrets s
  set secret = new_secret,
    previous_secret = case when overlap > interval '0' then s.secret end,
    previous_until = case when overlap > interval '0' then now() + overlap end
  where s.endpoint_id = rotate_secret.endpoint_id;
  return new_secret;
end
$$;
comment on function collecta.rotate_secret(text, interval, text) is
  'Gives an endpoint a new secret and returns it. If none is given, one is generated. Until the overlap ends, '
  'webhook-signature has a signature with each secret, and X-Webhook-Signature is made with the old one. Use overlap '
  '=> ''0'' after a leak: then the old secret is not used any more. The secret is stored in plain text; '
  'collecta-webhooks rotate-secret seals it before it is stored.';
--! EndIncluded endpoints/internal/new_secret.sql
--! Included endpoints/create_endpoint.sql
create or replace function collecta.create_endpoint(
  out endpoint_id text,
  url text,
  events text[],
  modules text[] default null,
  inout secret text default null,
  retry_max int default 5,
  name text default null,
  filter text default null,
  scope text default null,
  ordered boolean default false,
  payload_role text default null,
  headers jsonb default '{}',
  retry_base interval default '60 s',
  max_in_flight int default 50,
  max_per_second int default null
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint(create_endpoint.url, create_endpoint.events, create_endpoint.modules,
    create_endpoint.secret, create_endpoint.filter, create_endpoint.payload_role, create_endpoint.headers);
  perform collecta.check_endpoint_limits(null, create_endpoint.url, create_endpoint.events, create_endpoint.retry_max,
    create_endpoint.retry_base, create_endpoint.max_in_flight, create_endpoint.max_per_second);
  -- Everybody who changes modules or subscriptions takes this lock first, and then rows.
  perform pg_advisory_xact_lock(1668246636, 5);
  insert into collecta.endpoints as e (endpoint_id, name, url, events, modules, filter, scope, ordered, payload_role,
    headers, retry_max, retry_base, max_in_flight, after_change_id)
  values (collecta.new_id('ep'), create_endpoint.name, create_endpoint.url, create_endpoint.events,
    create_endpoint.modules, nullif(create_endpoint.filter, '')::jsonpath, create_endpoint.scope,
    create_endpoint.ordered, coalesce(create_endpoint.payload_role, ''),
    collecta.mask_headers(create_endpoint.headers), create_endpoint.retry_max, create_endpoint.retry_base,
    create_endpoint.max_in_flight, collecta.last_change_id())
  on conflict on constraint endpoints_name_is_unique do update
    set url = excluded.url, events = excluded.events, modules = excluded.modules, filter = excluded.filter,
      scope = excluded.scope, ordered = excluded.ordered, payload_role = excluded.payload_role,
      headers = excluded.headers, retry_max = excluded.retry_max, retry_base = excluded.retry_base,
      max_in_flight = excluded.max_in_flight
  returning e.endpoint_id into create_endpoint.endpoint_id;
  insert into collecta.endpoint_secrets as s (endpoint_id, secret, headers)
  values (create_endpoint.endpoint_id, coalesce(create_endpoint.secret, collecta.new_secret()), create_endpoint.headers)
  on conflict on constraint endpoint_secrets_pkey do update
    set secret = coalesce(create_endpoint.secret, s.secret), headers = excluded.headers
  returning s.secret into create_endpoint.secret;
  perform collecta.limit_endpoint(create_endpoint.endpoint_id, create_endpoint.max_per_second);
  perform collecta.subscribe_endpoint(create_endpoint.endpoint_id);
end
$$;
comment on function collecta.create_endpoint(text, text[], text[], text, int, text, text, text, boolean, text, jsonb,
  interval, int, int) is
  'Creates a destination. Returns its id and its secret, which only this function and rotate_secret show. If no '
  'secret is given, one is generated, or the present one stays. events: record_created, record_updated, '
  'record_deleted, status_change, custom_data_updated. modules: slugs; null means all modules, future ones included. '
  'name makes the call idempotent: if an endpoint of that name exists, all its options are replaced. An option that is '
  'not given gets its default, so without scope and filter it gets everything; update_endpoint changes single options. '
  'filter: an SQL/JSON path predicate over the payload, e.g. $.record.quantity > 10. headers: extra request headers; '
  'readers of collecta.endpoints see those that may carry credentials only masked. retry_base: the wait after the '
  'first failure, doubled after each further one. max_in_flight: most deliveries at once. max_per_second: most '
  'requests in any second (null: no limit). Both limits hold over all runners. The hints of the errors CW010 to CW016 '
  'say what to do.';

create or replace function collecta.update_endpoint(
  endpoint_id text,
  url text default null,
  events text[] default null,
  modules text[] default null,
  retry_max int default null,
  filter text default null,
  scope text default null,
  ordered boolean default null,
  payload_role text default null,
  headers jsonb default null,
  retry_base interval default null,
  max_in_flight int default null,
  all_modules boolean default false,
  max_per_second int default null
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(update_endpoint.endpoint_id);
  perform collecta.check_endpoint(
    coalesce(update_endpoint.url, e.url), coalesce(update_endpoint.events, e.events), update_endpoint.modules, null,
    update_endpoint.filter, update_endpoint.payload_role, coalesce(update_endpoint.headers, e.headers),
    e.endpoint_id)
  from collecta.endpoints e where e.endpoint_id = update_endpoint.endpoint_id;
  perform collecta.check_endpoint_limits(update_endpoint.endpoint_id, null, null, update_endpoint.retry_max,
    update_endpoint.retry_base, update_endpoint.max_in_flight, nullif(update_endpoint.max_per_second, 0));
  perform pg_advisory_xact_lock(1668246636, 5);
  update collecta.endpoints e
  set url = coalesce(update_endpoint.url, e.url),
    events = coalesce(update_endpoint.events, e.events),
    modules = case when all_modules then null else coalesce(update_endpoint.modules, e.modules) end,
    retry_max = coalesce(update_endpoint.retry_max, e.retry_max),
    filter = case when update_endpoint.filter = '' then null
      else coalesce(update_endpoint.filter::jsonpath, e.filter) end,
    scope = case when update_endpoint.scope = '' then null else coalesce(update_endpoint.scope, e.scope) end,
    ordered = coalesce(update_endpoint.ordered, e.ordered),
    payload_role = coalesce(update_endpoint.payload_role, e.payload_role),
    headers = coalesce(collecta.mask_headers(update_endpoint.headers), e.headers),
    retry_base = coalesce(update_endpoint.retry_base, e.retry_base),
    max_in_flight = coalesce(update_endpoint.max_in_flight, e.max_in_flight)
  where e.endpoint_id = update_endpoint.endpoint_id;
  update collecta.endpoint_secrets s set headers = update_endpoint.headers
  where s.endpoint_id = update_endpoint.endpoint_id and update_endpoint.headers is not null;
  perform collecta.limit_endpoint(update_endpoint.endpoint_id, nullif(update_endpoint.max_per_second, 0))
  where update_endpoint.max_per_second is not null;
  perform collecta.subscribe_endpoint(update_endpoint.endpoint_id);
end
$$;
comment on function collecta.update_endpoint(text, text, text[], text[], int, text, text, boolean, text, jsonb,
  interval, int, boolean, int) is
  'Changes the options that are given and keeps those that are null. To remove filter, scope or payload_role, pass '
  '''''; to remove max_per_second, pass 0; to subscribe to all modules, pass all_modules => true.';

create or replace function collecta.delete_endpoint(endpoint_id text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(delete_endpoint.endpoint_id);
  perform pg_advisory_xact_lock(1668246636, 5);
  update collecta.endpoints e set state = 'deleted', name = null where e.endpoint_id = delete_endpoint.endpoint_id;
  perform collecta.subscribe_endpoint(delete_endpoint.endpoint_id);
  delete from collecta.endpoint_secrets s where s.endpoint_id = delete_endpoint.endpoint_id;
  delete from collecta.unrouted u where u.endpoint_id = delete_endpoint.endpoint_id;
  -- Deliveries in flight finish and are recorded. If their lease lapses instead, maintain() deletes them.
  delete from collecta.delivery_queue q
  where q.endpoint_id = delete_endpoint.endpoint_id and (q.leased_until is null or q.leased_until < now());
end
$$;
comment on function collecta.delete_endpoint(text) is
  'Deletes an endpoint: no more deliveries are queued or sent to it, and its secret is deleted. Its row and its '
  'history stay.';
--! EndIncluded endpoints/create_endpoint.sql
drop function collecta.capture_inputs(int);
--! Included outbound/1_capture/internal/capture_parts.sql
create or replace function collecta.has_only_enums(relation oid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(bool_and(t.typtype = 'e' and (collecta.type_kind(t.oid) = 'untrusted' or not exists (
    select from pg_catalog.pg_cast c where c.castsource = t.oid and c.casttarget = 'json'::regtype))), false)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = collecta.element_type(a.atttypid)
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and t.oid >= 16384
$$;
comment on function collecta.has_only_enums(oid) is
  'Whether a table has columns of types that are not built in, and all of these are enums, arrays of enums or domains '
  'over them, whose values are captured as their text.';

create or replace function collecta.capture_parts(module collecta.module_versions, subscribed text[]) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  root constant oid := module.relation;
  numbers constant smallint[] := collecta.column_numbers(module, module.exclude_columns);
  omitted constant text[] := collecta.omitted_columns(root, module.exclude_columns, numbers);
  thin constant text[] := module.key_columns || module.status_column || module.scope_column;
  layout constant text := collecta.table_layout(root);
  pinned constant text[] := collecta.output_settings(root);
  kinds constant text[] := array(
    select collecta.type_kind(a.atttypid) from pg_catalog.pg_attribute a
    where a.attrelid = root and a.attnum > 0 and not a.attisdropped);
  -- Rows are captured as a whole, so that adding, renaming or dropping a column fails no writer. Column by column they
  -- are captured only where a column's type needs care.
  how constant text := case when kinds && '{trusted,untrusted}' then 'columns'
    when omitted <> '{}' then 'rows without' else 'rows' end;
  relations constant text := case when collecta.unresolved_columns(module) <> '{}' then '''{}''::oid[]'
    else format('collecta.relations_to_capture(%L, @called@, %s, %L, %L, %L, %L, %L)', collecta.capturing_role(), root,
      (select c.relkind = 'p' from pg_catalog.pg_class c where c.oid = root) or collecta.is_distributed(root),
      module.database, how, case how when 'columns' then layout else collecta.column_types(root) end, pinned) end;
  captured_row constant text := format('collecta_rows.row_%s(%%1$s, %%3$s)', module.module_id);
  -- The text of an enum is read without a cast and cannot fail, so such a row needs no function with exception blocks.
  only_enums constant boolean := collecta.has_only_enums(root);
  -- These are formats of the row, its alias, and the other row of an update.
  small constant text := case when only_enums then '%2$s.document' when how = 'columns' then captured_row
    else 'row_to_json(%1$s)' end;
  large constant text := case when how = 'columns' and not only_enums then captured_row
    else 'case when pg_column_size(%1$s) > 4096 then ' || captured_row || ' else ' || small || ' end' end;
  enum_document constant text := E',\n      case when pg_column_size("collecta %s".*) <= 4096 '
    'then row_to_json(coalesce("collecta all".*)) end as document';
  picked constant text := case when how = 'rows without' then 'collecta.pick_columns(' else '' end;
  without constant text := case when how = 'rows without'
    then format(', collecta.omitted_columns(%s, %L, %L), false)', root, module.exclude_columns, numbers) else '' end;
  document constant text := '(select row_to_json(coalesce("collecta all".*)) from (select %s) "collecta all")%s';
  -- A cast to json may return text that is no JSON (PostGIS does for POINT(NaN 1)), so its result is parsed.
  parsed constant text := case when kinds && '{trusted}' and exists (
      select from pg_catalog.pg_cast c
      where c.casttarget = 'json'::regtype and c.castfunc <> 0 and c.castsource >= 16384) then '::text::json' end;
begin
  return jsonb_build_object(
    'module_id', module.module_id,
    'version', module.version,
    'slug', module.slug,
    'relations', relations,
    'old_row', picked || format(small, 'o.r', 'o', 'n.r') || without,
    'new_row', picked || format(small, 'n.r', 'n', 'o.r') || without,
    'old_row_or_large', picked || format(large, 'o.r', 'o', 'n.r') || without,
    'new_row_or_large', picked || format(large, 'n.r', 'n', 'o.r') || without,
    'inserted_row', picked || format(large, 'n.r', 'n', 'null') || without,
    'deleted_row', picked || format(large, 'o.r', 'o', 'null') || without,
    -- The columns may be named here, because the statement is not used any more after one of them was changed.
    'old_document', case when only_enums then format(enum_document, 'old') end,
    'new_document', case when only_enums then format(enum_document, 'new') end,
    'old_columns', case when only_enums then format(E',\n      lateral (select %s) "collecta all"',
      collecta.row_columns(root, '"collecta old"', omitted, true)) end,
    'new_columns', case when only_enums then format(E',\n      lateral (select %s) "collecta all"',
      collecta.row_columns(root, '"collecta new"', omitted, true)) end,
    -- If nobody subscribes to updates, an update matters only if it changes the key, which is a delete and a create.
    'key_changed', case when how <> 'columns' and not subscribed && (array['record_updated']
        || case when module.status_column is not null then 'status_change' end
        || case when module.custom_data_column is not null then 'custom_data_updated' end)
      then (select format(E'\n    and array[%s] is distinct from array[%s]',
          string_agg(format('collecta.mask_escapes(row_to_json(o.r)) ->> %L', k), ', '),
          string_agg(format('collecta.mask_escapes(row_to_json(n.r)) ->> %L', k), ', '))
        from unnest(module.key_columns) k) end,
    'may_notify', case
      when coalesce((select s.notify from collecta.settings s), current_setting('max_prepared_transactions')::int = 0)
        then 'coalesce(current_setting(''collecta.notify'', true), '''') <> ''off'''
      else 'coalesce(current_setting(''collecta.notify'', true), '''') = ''on''' end,
    'settings', (
      select string_agg(format('set %I = %L', name, value), ' ' order by name collate "C")
      from jsonb_each_text(collecta.pinned_settings()) setting (name, value)
      where name = any (pinned)),
    'layout', layout,
    'size', collecta.row_size(root, 'captured', omitted),
    'document', case when how = 'columns'
      then format(document, collecta.row_columns(root, 'captured', omitted), parsed) else 'row_to_json(captured)' end,
    'document_as_text', case when kinds && '{trusted}' then
      collecta.fill_template(collecta.capture_row_as_text_template(), jsonb_build_object('document',
        format(document, collecta.row_columns(root, 'captured', omitted, true), ''))) end,
    -- Without the casts to record it would be parsed as a row comparison, for which *<> does not exist.
    'custom_data_changed', case when module.custom_data_column is null then 'false'
      else format('row(captured.%1$I)::record *<> row(other.%1$I)::record', module.custom_data_column) end,
    'thin_columns', coalesce(collecta.row_columns(root, 'captured', omitted, false, thin) || ', ', ''),
    'thin_by_name', case when how = 'columns' then 'null' else format(
      '(left(collecta.pick_columns(row_to_json(captured), %L, true)::text, -1) || '',"$truncated":true}'')::json',
      array_remove(thin, null)) end);
end
$$;
comment on function collecta.capture_parts(collecta.module_versions, text[]) is
  'Returns the texts that are filled into the templates of a module''s capture functions, by name.';

create or replace function collecta.capture_generator() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select md5(string_agg(p.prosrc, '' order by p.proname collate "C"))
  from pg_catalog.pg_proc p
  where p.pronamespace = 'collecta'::regnamespace
    and (p.proname ~ '^(capture_.*|refuse_truncate)_template$' collate "C"
      or p.proname in ('called_functions', 'capture_parts', 'column_expression', 'fill_template', 'output_settings',
        'plan_dependencies', 'row_columns', 'row_size', 'write_capture_functions'))
$$;
comment on function collecta.capture_generator() is
  'Returns a hash of the functions that generate capture functions. After an upgrade it is another one.';

create or replace function collecta.capture_inputs(module_id int, generator text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select md5(concat_ws(' ', generator, v, collecta.table_layout(v.relation), collecta.has_only_enums(v.relation),
    c.relkind, collecta.unresolved_columns(v),
    (select string_agg(collecta.type_kind(a.atttypid), ' ' order by a.attnum) from pg_catalog.pg_attribute a
     where a.attrelid = v.relation and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384),
    (select s.notify from collecta.settings s), current_setting('max_prepared_transactions')))
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_catalog.pg_class c on c.oid = v.relation
  where m.module_id = capture_inputs.module_id
$$;
comment on function collecta.capture_inputs(int, text) is
  'Returns everything that a module''s capture functions depend on besides its subscriptions. If it has changed, they '
  'must be generated again. generator is what capture_generator returns.';
--! EndIncluded outbound/1_capture/internal/capture_parts.sql
--! Included outbound/1_capture/internal/write_capture_functions.sql
-- Fills the templates for one module. CREATE OR REPLACE FUNCTION locks no table, so functions are replaced while
-- writers run.
--
-- The trigger functions run as collecta_capture, which also owns them. Code that runs as this role cannot find and
-- alter them, because it has no USAGE on collecta_modules. The functions that they call by name are in collecta and
-- collecta_rows and belong to another role.
create or replace function collecta.write_capture_functions(module_id int) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set check_function_bodies = off
as $$
declare
  module record;
  operation text;
  subscribed text[];
  parts jsonb;
  relations text;
  otherwise text;
  source text;
  name text;
  written boolean := false;
  written_functions regprocedure[] := array[]::regprocedure[];
  before jsonb;
  capturer constant name := collecta.capturing_role();
  inputs text;
begin
  -- Two sessions that replace one function at the same moment would fail with "tuple concurrently updated".
  perform pg_advisory_xact_lock(1668246636, 5);
  -- Under REPEATABLE READ the subscriptions that we see may be old: then this raises a serialization failure.
  update collecta.modules m set attached_at = m.attached_at where m.module_id = write_capture_functions.module_id;
  select v.version, v.relation, v.on_truncate, c.relkind, m.written_hash into module
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_catalog.pg_class c on c.oid = m.relation
  where m.module_id = write_capture_functions.module_id;
  if not found then
    return;
  end if;
  before := collecta.enter_citus();
  -- One look into the index for each event. A plain EXISTS over all events could read ten thousand endpoints' rows.
  select coalesce(array_agg(event), '{}') into subscribed
  from unnest(array['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated']) event
  where exists (select from collecta.subscriptions s
                where s.module_id = write_capture_functions.module_id and s.event = event.event)
    -- A restored or cloned database that must not deliver captures nothing.
    and (select i.delivers from collecta.installation i);
  parts := collecta.capture_parts(
    (select v from collecta.module_versions v where v.version = module.version), subscribed);

  name := format('collecta_rows.row_%s(record, record)', module_id);
  source := collecta.fill_template(collecta.capture_row_template(), parts);
  if not exists (
    select from pg_catalog.pg_proc p
    where p.oid = to_regprocedure(name) and p.prosrc = source
      and module.written_hash -> 'row' = to_jsonb(collecta.function_hash(p.oid)))
  then
    execute format('create or replace function %s returns json language plpgsql stable as %L',
      replace(name, '(record, record)', '(captured record, other record)'), source);
    perform collecta.revoke_execute(name::regprocedure);
    if to_regrole(quote_ident(capturer)) <> (
        select p.proowner from pg_catalog.pg_proc p where p.oid = name::regprocedure) then
      execute format('grant execute on function %s to %I', name, capturer);
    end if;
    written := true;
  end if;

  if subscribed <> '{}' then
    -- The functions of all operations name what any of them calls: to look this up for each would cost four times as
    -- much, and takes most of the time of subscribing to a thousand modules.
    select format(E'case\n      when true then %s\n      when %s then null end',
      -- Whatever the conditions after the second WHEN name makes PostgreSQL plan this again when it changes.
      replace(parts ->> 'relations', '@called@', quote_literal(called)),
      collecta.plan_dependencies(called, module.relation)) into relations
    from collecta.called_functions(collecta.fill_template(
      concat(collecta.capture_insert_template(), collecta.capture_update_template(),
        collecta.capture_delete_template(), collecta.capture_usual_or_otherwise_template()), parts)) called;
  end if;

  foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
    name := format('collecta_modules.capture_%s_%s()', module_id, operation);
    source := case
      when operation = 'truncate' and module.on_truncate = 'refuse' then collecta.refuse_truncate_template()
      when not case operation
          when 'insert' then subscribed && '{record_created}'
          when 'update' then subscribed <> '{}'
          when 'delete' then subscribed && '{record_deleted}'
          else subscribed && '{record_deleted}' and module.on_truncate = 'records' end
        -- Nobody subscribes to this operation: the function looks up, computes and writes nothing.
        then E'begin\n  return null;\nend'
      when operation = 'insert' then collecta.capture_insert_template()
      when operation = 'update' then collecta.capture_update_template()
      when operation = 'delete' then collecta.capture_delete_template()
      else collecta.capture_truncate_template() end;
    source := replace(source, '@usual_or_otherwise@', collecta.capture_usual_or_otherwise_template());
    otherwise := collecta.fill_template(collecta.capture_otherwise_template(),
      parts || jsonb_build_object('operation', upper(operation collate "C")));
    source := collecta.fill_template(source, parts || jsonb_build_object(
      'operation', operation,
      'rows', case operation when 'delete' then 'old_rows' else 'new_rows' end,
      'relations', relations,
      'capture_otherwise', otherwise,
      -- There are more old rows than new ones if a partition's BEFORE INSERT trigger drops a row that moves there.
      'unless_even', case when module.relkind = 'p' then format(
        E'\n    if (select count(*) from old_rows) <> (select count(*) from new_rows) then\n    %s\n    end if;',
        otherwise) end));
    -- A function that would stay the same is not written again: of ten thousand endpoints only the first changes it.
    continue when exists (
      select from pg_catalog.pg_proc p
      where p.oid = to_regprocedure(name) and p.prosrc = source
        and module.written_hash -> operation = to_jsonb(collecta.function_hash(p.oid)));
    execute format('create or replace function %s returns trigger language plpgsql volatile %s as %L', name,
      -- An empty function has no settings that would have to be set up at each call. pg_temp comes last in search_path;
      -- otherwise a type that the writer makes there would hide pg_catalog's and run with the owner's rights.
      case when source not like '%outbox%' and source not like '%capture_statement%' then ''
        else concat_ws(' ', 'security definer set search_path = pg_catalog, pg_temp', parts ->> 'settings')
        || case operation when 'truncate' then ' set row_security = on set constraint_exclusion = off' else '' end end,
      source);
    written := true;
    written_functions := written_functions || name::regprocedure;
  end loop;
  perform collecta.own_functions(written_functions, 'collecta_capture');
  inputs := collecta.capture_inputs(module_id, collecta.capture_generator());
  update collecta.modules m
  set written_for = inputs, written_hash = (
    select jsonb_object_agg(task, collecta.function_hash(p.oid))
    from unnest(array['insert', 'update', 'delete', 'truncate', 'row']) task
    join pg_catalog.pg_proc p on p.oid = to_regprocedure(
      case task when 'row' then format('collecta_rows.row_%s(record, record)', m.module_id)
        else format('collecta_modules.capture_%s_%s()', m.module_id, task) end))
  where m.module_id = write_capture_functions.module_id
    and (written or m.written_for is distinct from inputs);
  perform collecta.leave_citus(before);
end
$$;
comment on function collecta.write_capture_functions(int) is
  'Generates a module''s capture functions again. Everything that changes what they depend on calls it.';
--! EndIncluded outbound/1_capture/internal/write_capture_functions.sql
--! Included modules/internal/resolve_modules.sql
create or replace function collecta.column_numbers(module collecta.module_versions, names text[]) returns smallint[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select array(
    select (module.column_numbers ->> name)::smallint from unnest(names) name
    where module.column_numbers ? name and module.database = collecta.database_identity())
$$;
comment on function collecta.column_numbers(collecta.module_versions, text[]) is
  'Returns the attribute numbers that columns had when the module was attached, if they are valid in this database.';

create or replace function collecta.unresolved_columns(module collecta.module_versions) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select array(
    select name from unnest(module.exclude_columns) name
    where not (module.column_numbers ? name and module.database = collecta.database_identity())
      and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = module.relation and a.attname = name and a.attnum > 0 and not a.attisdropped))
$$;
comment on function collecta.unresolved_columns(collecta.module_versions) is
  'Returns the excluded columns that cannot be found, neither by name nor by number. As long as there are any, only '
  'key, scope and status are captured.';

-- Looks up again every column that is referred to by name or number, and generates capture functions again that no
-- longer match. migrate, maintain and resume_after_restore call it. A migration fails if it cannot do so because of a
-- lock, and is tried again; otherwise the next maintain does it.
create or replace function collecta.resolve_modules(anew boolean default false) returns setof text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  identity constant text := collecta.database_identity();
  generator constant text := collecta.capture_generator();
  module record;
begin
  for module in
    select m.module_id, m.slug, m.written_for, m.written_hash, h.hash, v
    from collecta.modules m
    left join collecta.capture_hashes() h using (module_id)
    join collecta.module_versions v on v.version = m.current_version
    join pg_catalog.pg_class c on c.oid = m.relation
    order by m.module_id
  loop
    begin
      update collecta.module_versions v
      set database = identity, exclude_columns = now.exclude_columns, ignore_columns = now.ignore_columns,
        column_numbers = now.column_numbers
      from (
        select
          collecta.follow_columns(module.v, (module.v).exclude_columns) as exclude_columns,
          collecta.follow_columns(module.v, (module.v).ignore_columns) as ignore_columns,
          -- Column numbers that were noted in another database mean nothing in this one.
          case when (module.v).database = identity then (module.v).column_numbers else '{}' end as known) was
      cross join lateral (
        select was.exclude_columns, was.ignore_columns, was.known || coalesce((
          select jsonb_object_agg(a.attname, a.attnum)
          from pg_catalog.pg_attribute a
          where a.attrelid = (module.v).relation and a.attnum > 0 and not a.attisdropped
            and a.attname = any (was.exclude_columns || was.ignore_columns || (module.v).key_columns
              || (module.v).status_column || (module.v).custom_data_column || (module.v).scope_column)),
          '{}') as column_numbers) now
      where v.version = (module.v).version
        and (v.database, v.exclude_columns, v.ignore_columns, v.column_numbers)
          is distinct from (identity, now.exclude_columns, now.ignore_columns, now.column_numbers);
      if anew or module.written_for is distinct from collecta.capture_inputs(module.module_id, generator)
        or module.written_hash is distinct from module.hash
      then
        -- While somebody attaches a module or changes subscriptions, the functions are left to the next call.
        continue when not anew and not pg_try_advisory_xact_lock(1668246636, 5);
        perform collecta.write_capture_functions(module.module_id);
        return next module.slug;
      end if;
    exception when others then
      if anew and sqlstate ~ '^(40|55P03)' collate "C" then
        raise;
      end if;
      -- collecta.health keeps its row, and the next call tries again.
      raise warning 'collecta: the capture functions of % could not be written: %', module.slug, sqlerrm;
    end;
  end loop;
end
$$;
comment on function collecta.resolve_modules(boolean) is
  'Finds the columns of each module again, after DDL or in a restored database, and generates its capture functions '
  'again if they do not match. Returns the modules for which it did so. With anew it does so for all modules, as '
  'after an upgrade.';

create or replace function collecta.follow_columns(module collecta.module_versions, names text[]) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select names || array(
    select name from unnest(collecta.column_numbers(module, names)) number
    cross join lateral collecta.column_name(module.relation, number) name
    where name <> all (names))
$$;
comment on function collecta.follow_columns(collecta.module_versions, text[]) is
  'Returns a list of columns, with the present names of those that were renamed.';

create or replace function collecta.capture_hashes() returns table (module_id int, hash jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select m.module_id, jsonb_object_agg(w.task, w.hash)
  from collecta.modules m
  join (
    -- split_part takes a tenth of the time of a regular expression.
    select split_part(p.proname, '_', 2) as module_id, split_part(p.proname, '_', 3) as task,
      collecta.function_hash(p) as hash
    from pg_catalog.pg_proc p
    where p.pronamespace = 'collecta_modules'::regnamespace and starts_with(p.proname, 'capture_')
    union all
    select split_part(p.proname, '_', 2), 'row', collecta.function_hash(p)
    from pg_catalog.pg_proc p
    where p.pronamespace = 'collecta_rows'::regnamespace and starts_with(p.proname, 'row_')
  ) w on w.module_id = m.module_id::text
  group by m.module_id
$$;
comment on function collecta.capture_hashes() is
  'Returns the present hashes of the modules'' capture functions, to compare them with those that were stored.';
--! EndIncluded modules/internal/resolve_modules.sql
--! Included modules/internal/save_module.sql
create or replace function collecta.save_module(
  relation regclass, slug text, status_column text, custom_data_column text, scope_column text,
  exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text
) returns int
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  saved int;
begin
  -- The same lock as in subscribe_endpoint. If an endpoint of all modules is being made at the same time, either it
  -- sees this module or this call sees the endpoint.
  perform pg_advisory_xact_lock(1668246636, 5);
  insert into collecta.modules as m (slug, relation, attached_as)
  values (save_module.slug, save_module.relation, relation)
  on conflict on constraint modules_slug_is_unique do update set attached_at = now(), attached_as = excluded.attached_as
  returning m.module_id into saved;
  with made as (
    insert into collecta.module_versions (module_id, slug, relation, key_columns, key_is_named, status_column,
      custom_data_column, scope_column, exclude_columns, ignore_columns, on_truncate, column_numbers, database)
    select saved, slug, relation, key_columns, key_is_named, status_column, custom_data_column, scope_column,
      exclude_columns, ignore_columns, on_truncate, coalesce(jsonb_object_agg(a.attname, a.attnum)
        filter (where a.attname = any (exclude_columns || ignore_columns || key_columns || status_column
          || custom_data_column || scope_column)), '{}'),
      collecta.database_identity()
    from pg_catalog.pg_attribute a
    where a.attrelid = save_module.relation and a.attnum > 0 and not a.attisdropped
    returning version)
  update collecta.modules m set current_version = made.version from made where m.module_id = saved;
  update collecta.inbound_endpoints e set functions_are_current = false where e.module = save_module.slug;
  insert into collecta.subscriptions (module_id, event, endpoint_id, scope, after_change_id)
  select saved, event, e.endpoint_id, e.scope, e.after_change_id
  from collecta.endpoints e cross join lateral unnest(e.events) event
  where e.state <> 'deleted' and (e.modules is null or save_module.slug = any (e.modules))
  on conflict do nothing;
  perform collecta.remember_module_tables(save_module.slug);
  perform collecta.write_capture_functions(saved);
  return saved;
end
$$;
comment on function collecta.save_module(regclass, text, text, text, text, text[], text[], text[], boolean, text) is
  'Writes collecta''s own tables for attach_module: a new version of the module, its subscriptions, and its capture '
  'functions.';

create or replace function collecta.forget_module(module_id int) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  module_slug constant text := (select m.slug from collecta.modules m where m.module_id = forget_module.module_id);
begin
  perform pg_advisory_xact_lock(1668246636, 5);
  perform collecta.remember_module_tables(module_slug);
  if not exists (
    select from collecta.modules m join pg_catalog.pg_class c on c.oid = m.relation
    where m.module_id = forget_module.module_id)
  then
    raise notice using message = format('collecta: the table of %s was dropped before it was detached, so its history '
        'is hidden from roles to which row security applies', module_slug),
      hint = format('If it had no row security: set role %I; delete from collecta.module_tables where slug = %L; '
        'reset role;', current_user, module_slug);
  end if;
  delete from collecta.modules m where m.module_id = forget_module.module_id;
  update collecta.inbound_endpoints e set functions_are_current = false where e.module = module_slug;
  perform pg_notify('collecta_inbound', '');
end
$$;
comment on function collecta.forget_module(int) is
  'The part of detach_module in collecta''s own tables. Subscriptions are kept until the module''s last change is '
  'routed.';

create or replace function collecta.drop_capture_functions(module_id int) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  task text;
  before constant jsonb := collecta.enter_citus();
begin
  foreach task in array array['insert', 'update', 'delete', 'truncate'] loop
    execute format('drop function if exists collecta_modules.%I()', format('capture_%s_%s', module_id, task));
  end loop;
  execute format('drop function if exists collecta_rows.%I(record, record)', format('row_%s', module_id));
  perform collecta.leave_citus(before);
end
$$;
comment on function collecta.drop_capture_functions(int) is
  'Drops the generated functions of a module, after detach_module has dropped its triggers.';
--! EndIncluded modules/internal/save_module.sql
--! Included modules/internal/limit_lock_waits.sql
create or replace function collecta.limit_lock_waits() returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  present constant text := current_setting('lock_timeout');
begin
  if present = '0' then
    perform set_config('lock_timeout', '5s', true);
  end if;
  return present;
end
$$;
comment on function collecta.limit_lock_waits() is
  'Limits waits for locks to five seconds unless lock_timeout does so already, because writers queue behind a lock on '
  'their table that is waited for. Returns lock_timeout as it was.';

create or replace function collecta.refuse_locked(relation regclass) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'lock_not_available', message = format('another session holds a lock on %s or on the '
      'list of modules', relation),
    detail = 'Writers would queue behind this call, so it waits no longer than lock_timeout.',
    hint = format('select distinct a.pid, a.state, a.query from pg_locks l join pg_stat_activity a using (pid) '
      'where l.granted and (l.relation = %L::regclass or l.classid = 1668246636 and l.objid = 5); '
      '-- when these have ended, make the same call again', relation);
end
$$;
comment on function collecta.refuse_locked(regclass) is
  'Raises 55P03 with a hint that shows who holds the locks that attach_module and detach_module need.';
--! EndIncluded modules/internal/limit_lock_waits.sql
--! Included modules/internal/attach_relation.sql
create or replace function collecta.attach_relation(
  relation regclass,
  slug text,
  status_column text default null,
  custom_data_column text default null,
  scope_column text default null,
  exclude_columns text[] default null,
  ignore_columns text[] default null,
  key_columns text[] default null,
  on_truncate text default null
) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  -- An argument that is null stays as it was, by the present names of its columns.
  before collecta.module_versions;
  present constant text[] := array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
  keys text[];
  gone text[] := array[]::text[];
  shown text[];
  saved int;
  lock_timeout constant text := collecta.limit_lock_waits();
begin
  select v.* into before
  from collecta.modules m join collecta.module_versions v on v.version = m.current_version
  where m.slug = attach_relation.slug and m.relation = attach_relation.relation;
  status_column := nullif(coalesce(status_column, before.status_column), '');
  custom_data_column := nullif(coalesce(custom_data_column, before.custom_data_column), '');
  scope_column := nullif(coalesce(scope_column, before.scope_column), '');
  key_columns := coalesce(key_columns, case when before.key_is_named then before.key_columns end);
  on_truncate := coalesce(on_truncate, before.on_truncate, 'records');
  if exclude_columns is null then
    exclude_columns := coalesce(collecta.follow_columns(before, before.exclude_columns), '{}');
    -- A dropped column stays in the list, so that a new column of the same name is excluded too.
    gone := array(select c from unnest(exclude_columns) c where c <> all (present));
    exclude_columns := array(select c from unnest(exclude_columns) c where c = any (present));
  end if;
  if ignore_columns is null then
    ignore_columns := array(
      select c from unnest(coalesce(collecta.follow_columns(before, before.ignore_columns), '{}')) c
      where c = any (present));
  end if;
  keys := collecta.check_module(relation, slug, status_column, custom_data_column, scope_column,
    exclude_columns, ignore_columns, key_columns, on_truncate);
  shown := array(
    select c from unnest(collecta.follow_columns(before, before.exclude_columns)) c
    where c = any (present) and c <> all (exclude_columns));
  if shown <> '{}' then
    raise notice 'collecta: from now on column % of % is sent', array_to_string(shown, ', '), relation;
  end if;
  saved := collecta.save_module(relation, slug, status_column, custom_data_column, scope_column,
    exclude_columns || gone, ignore_columns, keys, key_columns is not null, on_truncate);
  perform collecta.attach_triggers(relation, saved, on_truncate);
  perform set_config('lock_timeout', lock_timeout, true);
  return saved;
exception when lock_not_available then
  perform collecta.refuse_locked(relation);
end
$$;
comment on function collecta.attach_relation(regclass, text, text, text, text, text[], text[], text[], text) is
  'Does what attach_module and attach_shards do after they have checked the kind of the table.';
--! EndIncluded modules/internal/attach_relation.sql
--! Included modules/attach_module.sql
create or replace function collecta.attach_module(
  relation regclass,
  slug text,
  status_column text default null,
  custom_data_column text default null,
  scope_column text default null,
  exclude_columns text[] default null,
  ignore_columns text[] default null,
  key_columns text[] default null,
  on_truncate text default null
) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform collecta.refuse_distributed(relation, slug);
  return collecta.attach_relation(relation, slug, status_column, custom_data_column, scope_column, exclude_columns,
    ignore_columns, key_columns, on_truncate);
end
$$;
comment on function collecta.attach_module(regclass, text, text, text, text, text[], text[], text[], text) is
  'Makes a table a module: its changes become events under this slug. The caller needs TRIGGER on the table. For a '
  'table that is attached already, it changes the options that are given and keeps those that are null; to remove a '
  'column pass '''', to remove a list ''{}''. status_column and custom_data_column cause the events status_change and '
  'custom_data_updated. scope_column is compared with the scope of endpoints. exclude_columns are never captured. If '
  'only ignore_columns change, there is no event. key_columns name a unique, not null key to use instead of the '
  'primary key. on_truncate is records (the default), ignore or refuse. Returns the number of the module. The hints '
  'of the errors CW002 to CW006 say what to do.';

create or replace function collecta.attach_partitions(slug text) returns int
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  module record;
  lock_timeout constant text := collecta.limit_lock_waits();
  created int;
begin
  select m.module_id, m.relation, v.on_truncate into module
  from collecta.modules m join collecta.module_versions v on v.version = m.current_version
  where m.slug = attach_partitions.slug;
  if not found then
    perform collecta.refuse_slug(slug);
  end if;
  created := collecta.attach_triggers(module.relation, module.module_id, module.on_truncate);
  perform set_config('lock_timeout', lock_timeout, true);
  return created;
exception when lock_not_available then
  perform collecta.refuse_locked(module.relation);
end
$$;
comment on function collecta.attach_partitions(text) is
  'Creates the missing triggers on new partitions of a module''s table. The caller needs TRIGGER on them. Returns how '
  'many triggers it created.';

create or replace function collecta.detach_module(slug text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  module collecta.modules;
  standing record;
  lock_timeout constant text := collecta.limit_lock_waits();
  before constant jsonb := collecta.enter_citus();
begin
  -- Everybody who changes modules or subscriptions takes this lock first, and locks on tables last.
  perform pg_advisory_xact_lock(1668246636, 5);
  select * into module from collecta.modules m where m.slug = detach_module.slug;
  if not found then
    perform collecta.refuse_slug(slug);
  end if;
  perform collecta.forget_module(module.module_id);
  for standing in
    select t.tgname, t.tgrelid::regclass as relation from pg_catalog.pg_trigger t
    where t.tgfoid in (
      select to_regproc(format('collecta_modules.capture_%s_%s', module.module_id, task))::oid
      from unnest(array['insert', 'update', 'delete', 'truncate']) task)
  loop
    execute format('drop trigger %I on %s', standing.tgname, standing.relation);
  end loop;
  perform collecta.drop_capture_functions(module.module_id);
  perform collecta.leave_citus(before);
  perform set_config('lock_timeout', lock_timeout, true);
exception when lock_not_available then
  perform collecta.refuse_locked(module.relation);
end
$$;
comment on function collecta.detach_module(text) is
  'Drops the triggers on a module''s table, and deletes the module. The caller must own the table. Changes that were '
  'captured before are still routed, and the history stays.';
--! EndIncluded modules/attach_module.sql
--! Included install/resume_after_restore.sql
create or replace function collecta.resume_after_restore(environment text default null) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  present constant text := collecta.database_identity();
begin
  if not exists (select from collecta.settings) then
    raise exception using errcode = 'CW040', message = 'this database has collecta''s schema without its rows',
      detail = 'It looks like a copy of the schema alone.', hint = 'collecta-webhooks migrate';
  end if;
  perform pg_advisory_xact_lock(1668246636, 5);
  perform collecta.restore_grants();
  insert into collecta.installation as i (system_identifier, database_oid, branch, environment)
  values (split_part(present, '/', 1)::bigint, split_part(present, '/', 2)::oid,
    nullif(split_part(present, '/', 3), ''), resume_after_restore.environment)
  on conflict on constraint installation_pkey do update
  set system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
    branch = excluded.branch,
    environment = coalesce(excluded.environment, i.environment), delivers = true, since = now();
  -- disable_copy() may have emptied the capture functions, so they are all written again.
  perform collecta.resolve_modules(anew => true);
  perform collecta.mend_inbound();
  perform collecta.wake_runner();
end
$$;
comment on function collecta.resume_after_restore(text) is
  'Makes this database, which was restored, cloned or upgraded, the one that delivers. Its endpoints, queue and '
  'secrets are those of the original, so check them first.';

create or replace function collecta.disable_copy(physical_copy boolean default false) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  present constant text := collecta.database_identity();
  module record;
begin
  if not physical_copy and exists (
    select from collecta.installation i where i.identity = present
  ) then
    raise exception using errcode = 'CW042', message = 'this database is not known to be a copy',
      detail = 'It is the one that collecta delivers for, or a physical copy of that one. Its queue would be lost.',
      hint = 'If it is a physical copy: select collecta.disable_copy(physical_copy => true);';
  end if;
  perform pg_advisory_xact_lock(1668246636, 5);
  insert into collecta.installation (system_identifier, database_oid, branch, delivers)
  values (split_part(present, '/', 1)::bigint, split_part(present, '/', 2)::oid,
    nullif(split_part(present, '/', 3), ''), false)
  on conflict on constraint installation_pkey do update
  set delivers = false, since = now();
  -- The capture functions become empty. Dropping the triggers would need a lock on each table; this needs none.
  for module in select m.module_id from collecta.modules m order by m.module_id loop
    perform collecta.write_capture_functions(module.module_id);
  end loop;
  delete from collecta.delivery_queue;
  delete from collecta.outbox;
  delete from collecta.reorderings;
end
$$;
comment on function collecta.disable_copy(boolean) is
  'Makes this database a copy that never delivers, for example a test database. From now on it captures no changes '
  'and no delivery is claimed. The queue and the outbox are emptied; endpoints and history stay. '
  'resume_after_restore() makes it deliver again.';
--! EndIncluded install/resume_after_restore.sql
--! Included outbound/2_route/internal/event_body.sql
create or replace function collecta.event_body(
  event_id text, event text, sequence bigint, captured_at timestamptz, module text, record_id text,
  status_from text, status_to text, record text, previous text, extras text
) returns text
language sql stable
as $$
  select format('{"id":"%s","event":"%s","sequence":%s,"occurred_at":"%s","module":"%s","record_id":%s%s,"record":%s'
      '%s%s}',
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

  if routing.more or chosen.cut or routing.bytes >= batch_bytes then
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
    case when found_deliveries then concat_ws(chr(30), routing.leased, chosen.leased) end, coalesce(endpoints, '[]'),
    coalesce(routing.routed, 0), next, wait_ms, coalesce(routing.reordering, false), trouble,
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
drop function collecta.check_inbound_mapping(text, jsonb, text[], text);
--! Included inbound/internal/check_inbound_mapping.sql
create or replace function collecta.inbound_call(
  inbound_endpoint_id text, module text, mapping jsonb, match_columns text[], match_where text
) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when inbound_endpoint_id is null
      then format('select * from collecta.create_inbound_endpoint(%L, %L', module, mapping)
      else format('select collecta.update_inbound_endpoint(%L, mapping => %L', inbound_endpoint_id, mapping) end
    || coalesce(', match_columns => ' || quote_literal(nullif(match_columns, '{}')::text), '')
    || coalesce(', match_where => ' || quote_literal(match_where), '') || ');'
$$;
comment on function collecta.inbound_call(text, text, jsonb, text[], text) is
  'Returns a call for a hint: of update_inbound_endpoint, or of create_inbound_endpoint if there is no '
  'inbound_endpoint_id.';

create or replace function collecta.mended_inbound_mapping(
  mapping jsonb, wrong text[], missing text[], scope_column text default null
) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
      select jsonb_object_agg(m.key, m.value)
      from (
        select m.*, row_number() over (partition by case when m.key ~ '^\$' then m.value #>> '{}' else m.key end) as nth
        from jsonb_each(mapping) m) m
      where m.nth = 1 and case when m.key ~ '^\$' then m.value #>> '{}' else m.key end <> all (coalesce(wrong, '{}'))),
      '{}')
    || coalesce((
      select jsonb_object_agg(c, case when c = scope_column then '{"constant": "acme"}'
        else jsonb_build_object('required', true, 'path',
          case when c ~ '^[A-Za-z_][A-Za-z0-9_-]*$' collate "C" then '$.' || c else format('$[''%s'']', c) end) end)
      from unnest(missing) c), '{}')
$$;
comment on function collecta.mended_inbound_mapping(jsonb, text[], text[], text) is
  'Returns a mapping for a hint: without some columns and with others, which are taken from members of their names. A '
  'scope column gets a constant.';

-- This function reads only the catalog. If it planned or ran a statement on the table, code of the table's owner would
-- run with the rights of the caller, who may be a superuser.
create or replace function collecta.check_inbound_mapping(
  module text, mapping jsonb, match_columns text[], inout match_where text, inbound_endpoint_id text default null,
  out relation regclass
)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  target record;
  wrong text;
  wrong_columns text[];
  missing text;
  missing_columns text[];
  mended jsonb;
  matched text[];
begin
  select m.relation, v.key_columns, v.scope_column, c.oid is null as is_gone into target
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  left join pg_catalog.pg_class c on c.oid = m.relation
  where m.slug = module;
  if not found or target.is_gone then
    raise exception using errcode = 'CW051', message = case when target.is_gone
        then format('the table of module %L was dropped', module)
          else format('there is no module %L to receive into', module) end,
      detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m) || '.',
        'No table is attached.'),
      hint = case when target.is_gone then format('select collecta.detach_module(%L);', module)
        else 'select schemaname, tablename from pg_catalog.pg_tables where schemaname !~ ''^(pg_|information_schema|'
          'collecta)''; -- attach one of these tables with attach_module' end;
  end if;
  relation := target.relation;

  -- Only these columns of the catalog can be mapped. A sender cannot choose values that identify a record, a tenant or
  -- a person.
  select string_agg(format('%I %s', f.column_name, f.why), '; '),
    array_agg(f.column_name) filter (where f.why <> 'is mapped twice' and f.column_name <> all (target.key_columns))
  into wrong, wrong_columns
  from (
    select r.column_name, case
      when count(*) over (partition by r.column_name) > 1 then 'is mapped twice'
      when a.attname is null then 'does not exist'
      when a.attgenerated <> '' then 'is generated'
      when a.attidentity <> '' then 'is an identity column'
      when r.constant is not null then null
      when r.column_name = any (target.key_columns) and r.column_name <> all (coalesce(match_columns, '{}'))
        then 'is the record''s key: match by it, or let the table make it'
      when r.column_name = target.scope_column
        then 'is the module''s scope: give it as a constant, a payload must not choose it'
      when pg_get_expr(d.adbin, d.adrelid) ~* '\m(current_user|session_user|current_role|user)\M' collate "C"
        then 'says who wrote the record: give it as a constant, or leave it to its default'
    end as why
    from collecta.read_inbound_mapping(mapping) r
    left join pg_catalog.pg_attribute a
      on a.attrelid = target.relation and a.attname = r.column_name and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum) f
  where f.why is not null;
  select string_agg(format('%I', a.attname), ', '), array_agg(a.attname::text) into missing, missing_columns
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = target.relation and a.attnum > 0 and not a.attisdropped and a.attnotnull
    and not a.atthasdef and a.attidentity = '' and a.attgenerated = '' and t.typdefault is null
    and a.attname <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r);
  if wrong is not null or missing is not null then
    mended := collecta.mended_inbound_mapping(mapping, wrong_columns, missing_columns, target.scope_column);
    raise exception using errcode = 'CW053', message = format('this mapping cannot write %s', target.relation),
      -- Not by format(), which writes a null as nothing: where none is missing, there is nothing to say about it.
      detail = concat_ws('; ', 'Column ' || wrong,
        'Column ' || missing || ' must not be null, has no default and is not mapped') || '.',
      hint = case
        when mended = '{}' then format('select attname, atttypid::regtype, attidentity, attgenerated '
          'from pg_catalog.pg_attribute where attrelid = %L::regclass and attnum > 0;', target.relation)
        else collecta.inbound_call(inbound_endpoint_id, module, mended,
          coalesce(match_columns, '{}') || array(
            select r.column_name from collecta.read_inbound_mapping(mended) r
            where r.column_name = any (target.key_columns) and r.column_name <> all (coalesce(match_columns, '{}'))),
          match_where) end;
  end if;

  select string_agg(format('%I', c), ', ') into wrong
  from unnest(match_columns) c
  where c is null or c <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r);
  if wrong is not null or array_position(match_columns, null) > 0 then
    raise exception using errcode = 'CW054', message = format('match column %s is not mapped', coalesce(wrong, 'null')),
      detail = 'A record is matched by what the payload says; so each match column needs its entry in the mapping.',
      hint = collecta.inbound_call(inbound_endpoint_id, module,
        collecta.mended_inbound_mapping(mapping, null, array(
          select c from unnest(match_columns) c
          where c <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r))),
        array_remove(match_columns, null), match_where);
  end if;
  matched := collecta.inbound_match_columns(
    array(select r.column_name from collecta.read_inbound_mapping(mapping) r), coalesce(match_columns, '{}'),
      target.scope_column);
  if matched = '{}' then
    if match_where is not null then
      raise exception using errcode = 'CW054', message = 'match_where needs match_columns',
        detail = 'It limits which records can be matched.',
        hint = collecta.inbound_call(inbound_endpoint_id, module, mapping, null, null);
    end if;
    return;
  end if;
  select string_agg(format('%I', c), ', '), array_agg(c) into wrong, wrong_columns
  from unnest(matched) c
  join pg_catalog.pg_attribute a on a.attrelid = target.relation and a.attname = c and not a.attisdropped
  where (select e.operator from collecta.equality_of(a.atttypid) e) is null;
  if wrong is not null then
    raise exception using errcode = 'CW054',
      message = format('a match column of %s cannot be compared', target.relation),
      detail = format('The type of %s has no equality operator that indexes could use.', wrong),
      hint = collecta.inbound_call(inbound_endpoint_id, module, mapping,
          array(select c from unnest(match_columns) c where c <> all (wrong_columns)), null)
        || ' -- or match by other columns';
  end if;
  match_where := coalesce(nullif(btrim(match_where), ''), collecta.infer_match_where(target.relation, matched));
  if not collecta.is_unique_key(target.relation, matched, match_where) then
    missing := format('create unique index concurrently on %s (%s)%s;', target.relation,
      (select string_agg(format('%I', c), ', ') from unnest(matched) c), ' where ' || match_where);
    if collecta.hides_records(target.relation) then
      raise exception using errcode = 'CW054',
        message = format('row security of %s could hide the matching record', target.relation),
        detail = 'Without a unique index on the match columns a hidden record would get a duplicate.', hint = missing;
    end if;
    raise notice using message = format(
        'collecta: no unique index on %s (%s): inbound requests write this table one after another, and other writers '
        'can make duplicates', target.relation, array_to_string(matched, ', ')), hint = missing;
  end if;
end
$$;
comment on function collecta.check_inbound_mapping(text, jsonb, text[], text, text) is
  'Refuses, each with its hint, what a mapping cannot have (CW051 to CW054); returns the module''s table and '
  'match_where, which is read from the partial unique index on the match columns where it is not given.';
--! EndIncluded inbound/internal/check_inbound_mapping.sql
--! Included inbound/internal/read_inbound_mapping.sql
-- The grammar is that of src/inbound/payload.ts. A path in it cannot run code, search the whole document or mean two
-- things.
create or replace function collecta.inbound_path_steps(path text) returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when length(path) <= 512
      and path collate "C" ~ '^\$\$?(\.[A-Za-z_][A-Za-z0-9_-]*|\[''[^''\\^`[:cntrl:]]+''\]|'
        '\[(0|[1-9][0-9]{0,5})\]){0,16}$'
    then (select coalesce(array_agg(coalesce(step[1], step[2], step[3]) order by place), '{}')
          from regexp_matches(path collate "C", '\.([A-Za-z_][A-Za-z0-9_-]*)|\[''([^'']+)''\]|\[([0-9]+)\]', 'g')
            with ordinality m (step, place)) end
$$;
comment on function collecta.inbound_path_steps(text) is
  'The names and indexes of $.name, $[''name''], $[0] ... (at most 16 steps and 512 characters); null for anything '
  'else.';

create or replace function collecta.read_inbound_mapping(mapping jsonb)
returns table (
  column_name text, path text, steps text[], required boolean, fallback jsonb, constant jsonb, forms text[]
)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  entry record;
  wrong text;
begin
  if jsonb_typeof(mapping) is distinct from 'object' or mapping = '{}' then
    raise exception using errcode = 'CW052', message = 'a mapping is an object with at least one entry',
      hint = 'select ''{"$.payload.sku": "product_code", "quantity": {"path": "$.payload.qty", '
        '"required": true}}''::jsonb; -- is a mapping';
  end if;
  for entry in
    select m.key, m.value, m.key ~ '^\$' as short, jsonb_typeof(m.value) as kind
      from jsonb_each(mapping) m order by m.key collate "C"
  loop
    wrong := case
      when entry.short and entry.kind <> 'string' then 'a path maps to the name of a column, a string'
      when not entry.short and entry.kind <> 'object'
        then 'a column maps to an object: {"path": "$.payload.sku"}; paths begin with $'
      when entry.short then null
      when entry.value - '{path,as,default,required,constant,whole}'::text[] <> '{}'
        then 'it has a member that is none of path, as, default, required, constant, whole'
      when (entry.value ? 'path')::int + (entry.value ? 'constant')::int + (entry.value ? 'whole')::int <> 1
        then 'it needs exactly one of path, constant and whole'
      when entry.value ? 'whole' and entry.value -> 'whole' <> 'true' then 'whole can only be true'
      when entry.value ? 'required' and jsonb_typeof(entry.value -> 'required') <> 'boolean'
        then 'required is true or false'
      when not entry.value ? 'path' and entry.value ?| '{as,default,required}'
        then 'as, default and required need a path'
      when entry.value ? 'as' and not (case jsonb_typeof(entry.value -> 'as') when 'array' then entry.value -> 'as'
          else jsonb_build_array(entry.value -> 'as') end
          <@ '["epoch_seconds", "epoch_milliseconds", "empty_as_null", "unchecked"]')
        then 'as is epoch_seconds, epoch_milliseconds, empty_as_null or unchecked, or a list of them'
      when entry.value ? 'default' and entry.value -> 'required' = 'true'
        then 'what has a default is never missing: leave out default or required'
      when jsonb_typeof(entry.value -> 'path') <> 'string' then 'its path is no string'
    end;
    column_name := case when entry.short then entry.value #>> '{}' else entry.key end;
    path := case when entry.short then entry.key when entry.value ? 'whole' then '$' else entry.value ->> 'path' end;
    steps := collecta.inbound_path_steps(path);
    if wrong is null and path is not null and steps is null then
      wrong := format('the path %s is not of the form $.name, $[''name''], $[0] ... (at most 16 steps and 512 '
        'characters; no wildcards, filters or slices)', left(path, 100));
    end if;
    if wrong is not null then
      raise exception using errcode = 'CW052',
        message = format('the mapping''s entry %s cannot be used', left(to_json(entry.key)::text, 100)),
        detail = format('Because %s.', wrong),
        hint = 'select ''{"$.payload.sku": "product_code", "quantity": {"path": "$.payload.qty", "required": '
          'true}}''::jsonb; -- is a mapping';
    end if;
    required := coalesce((entry.value -> 'required')::boolean, false);
    fallback := entry.value -> 'default';
    constant := entry.value -> 'constant';
    forms := array(select jsonb_array_elements_text(case jsonb_typeof(entry.value -> 'as')
      when 'array' then entry.value -> 'as' when 'string' then jsonb_build_array(entry.value -> 'as') else '[]' end));
    return next;
  end loop;
end
$$;
comment on function collecta.read_inbound_mapping(jsonb) is
  'A mapping, one row a column. Both forms: "path": "column", and "column": {"path" | "constant" | "whole": ..., '
  '"default": ..., "required": ...}. Refuses with CW052 what is not of them.';
--! EndIncluded inbound/internal/read_inbound_mapping.sql
--! Included inbound/internal/save_inbound_endpoint.sql
create or replace function collecta.save_inbound_endpoint(
  endpoint collecta.inbound_endpoints, secret text, out inbound_endpoint_id text, out token text,
    out function_number int
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  sender collecta.inbound_senders;
  wrong text;
begin
  -- detach_module takes this lock, too. If it came first, write_inbound_functions finds no module and raises an error.
  perform pg_advisory_xact_lock(1668246636, 5);
  select * into sender from collecta.inbound_senders k where k.sender = endpoint.sender;
  wrong := case
    when sender.sender is null then format('%L is no sender; there are %s', endpoint.sender,
      (select string_agg(k.sender, ', ' order by k.sender) from collecta.inbound_senders k))
    when endpoint.require_signature is null then 'require_signature is true, false or standard'
    when endpoint.require_signature <> 'false' and sender.signatures = '[]'
      then format('%s signs nothing', sender.sender)
    when secret is not null and sender.signatures = '[]'
      then format('%s signs nothing: leave the secret out', sender.sender)
    when endpoint.require_signature = 'standard'
      and not exists (select from jsonb_array_elements(sender.signatures) s where s ?& '{id,timestamp}'::text[])
      then format('no signature of %s covers an id and a time', sender.sender)
    when not collecta.is_inbound_secret(secret, sender.signatures)
      then 'a secret is 1 to 512 printable characters, and goes on in base64 where it begins with whsec_; leave it out '
        'and say require_signature => true for a generated one'
    when (endpoint.rate_limit_per_minute between 1 and 60000) is not true
      then 'rate_limit_per_minute is from 1 to 60000'
    when (endpoint.max_body_bytes between 1 and 67108864) is not true then 'max_body_bytes is from 1 to 67108864'
    when (endpoint.max_elements between 1 and 100000) is not true then 'max_elements is from 1 to 100000'
    when endpoint.each is not null and collecta.inbound_path_steps(endpoint.each) is null
      then 'each is a path: $.alerts'
    when endpoint.events is not null and sender.event is null
      then format('the sender %s does not say where the name of an event stands; insert one of your own into '
        'collecta.inbound_senders', sender.sender)
    when endpoint.events = '{}' or array_position(endpoint.events, null) > 0 then 'events is null or names events'
    when endpoint.digest_window < interval '0' or endpoint.digest_window > interval '30 days'
      then 'digest_window is from 0 to 30 days'
    when endpoint.each_alone is null or endpoint.keep_ignored is null
      then 'each_alone and keep_ignored are true or false'
  end;
  if wrong is not null then
    raise exception using errcode = 'CW055', message = 'an inbound endpoint cannot have this setting',
      detail = format('The rule: %s.', wrong),
      hint = collecta.inbound_call(endpoint.inbound_endpoint_id, endpoint.module, endpoint.mapping,
        endpoint.match_columns, endpoint.match_where) || ' -- and options that follow the rule';
  end if;
  endpoint.columns := array(select m.column_name from collecta.read_inbound_mapping(endpoint.mapping) m
    order by m.column_name collate "C");
  if endpoint.inbound_endpoint_id is null then
    token := encode(sha256(convert_to(collecta.new_secret(), 'UTF8')), 'hex');
    insert into collecta.inbound_endpoints as e (inbound_endpoint_id, module, relation, mapping, match_columns,
      match_where,
      sender, require_signature, each, each_alone, max_elements, events, keep_ignored, digest_window,
      rate_limit_per_minute, max_body_bytes, columns, writer)
    values (collecta.new_id('inb'), endpoint.module, endpoint.relation, endpoint.mapping,
      coalesce(endpoint.match_columns, '{}'), endpoint.match_where, endpoint.sender, endpoint.require_signature,
      endpoint.each, endpoint.each_alone, endpoint.max_elements, endpoint.events, endpoint.keep_ignored,
      endpoint.digest_window, endpoint.rate_limit_per_minute, endpoint.max_body_bytes, endpoint.columns,
        endpoint.writer)
    returning e.inbound_endpoint_id, e.function_number into inbound_endpoint_id, function_number;
    insert into collecta.inbound_secrets (inbound_endpoint_id, token_hash, secret)
    values (inbound_endpoint_id, encode(sha256(convert_to(token, 'UTF8')), 'hex'), secret);
    perform collecta.fit_inbound_budget(inbound_endpoint_id, endpoint.rate_limit_per_minute);
  else
    -- A request holds a row of the budget when it locks the endpoint, so the budget comes first here too.
    perform collecta.fit_inbound_budget(endpoint.inbound_endpoint_id, endpoint.rate_limit_per_minute);
    update collecta.inbound_endpoints e
    set relation = endpoint.relation, mapping = endpoint.mapping, match_columns = endpoint.match_columns,
      match_where = endpoint.match_where, each = endpoint.each, each_alone = endpoint.each_alone,
      max_elements = endpoint.max_elements, events = endpoint.events, keep_ignored = endpoint.keep_ignored,
      digest_window = endpoint.digest_window, rate_limit_per_minute = endpoint.rate_limit_per_minute,
      max_body_bytes = endpoint.max_body_bytes, columns = endpoint.columns, mapping_version = e.mapping_version + 1
    where e.inbound_endpoint_id = endpoint.inbound_endpoint_id
    returning e.inbound_endpoint_id, e.function_number into inbound_endpoint_id, function_number;
  end if;
  if endpoint.writer <> 'collecta_writer'
    and collecta.written_owner(endpoint.writer) = collecta.role_name(endpoint.writer)
  then
    -- A column's default may be collecta.new_id('rec'). collecta_writer has these rights from the installation.
    execute format('grant usage on schema collecta to %I', collecta.role_name(endpoint.writer));
    execute format('grant execute on function collecta.new_id(text), '
      'collecta.is_inbound_shape(text, int, text) to %I', collecta.role_name(endpoint.writer));
  end if;
  perform collecta.write_inbound_functions(inbound_endpoint_id);
  perform pg_notify('collecta_inbound', '');
end
$$;
comment on function collecta.save_inbound_endpoint(collecta.inbound_endpoints, text) is
  'The part of create_inbound_endpoint and update_inbound_endpoint in collecta''s own tables: a row without an id is '
  'new.';

create or replace function collecta.is_inbound_secret(secret text, signatures jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when secret like 'sealed:%' or signatures @> '[{"key": "base64"}]' then collecta.is_secret(secret)
    else secret is null or length(secret) between 1 and 512 and secret !~ '[[:cntrl:]]' collate "C" end
$$;
comment on function collecta.is_inbound_secret(text, jsonb) is
  'As is_secret; of a sender whose keys are text, what follows whsec_ need not be base64.';

create or replace function collecta.try_inbound_match(inbound_endpoint_id text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint record;
begin
  select e.function_number, e.relation, e.match_where into endpoint
  from collecta.inbound_endpoints e
  where e.inbound_endpoint_id = try_inbound_match.inbound_endpoint_id and e.match_columns <> '{}';
  if found then
    execute format('select collecta.cast_inbound_%s(''{}'', null)', endpoint.function_number);
  end if;
exception when others then
  raise exception using errcode = 'CW054', message = format('records of %s cannot be matched so', endpoint.relation),
    detail = sqlerrm || '.',
    hint = format('select attname, atttypid::regtype from pg_catalog.pg_attribute where attrelid = %L::regclass '
      'and attnum > 0; -- match_where is a condition over these columns', endpoint.relation);
end
$$;
comment on function collecta.try_inbound_match(text) is
  'Prepares the match of an inbound endpoint as its writer, so that a wrong match_where is refused when it is given.';
--! EndIncluded inbound/internal/save_inbound_endpoint.sql
--! Included inbound/internal/inbound_cast_problem.sql
create or replace function collecta.inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json)
  returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  col record;
  kind constant text := json_typeof("values" -> column_name);
begin
  select e.function_number, format_type(a.atttypid, a.atttypmod) as type, a.attname = any (e.scalar_columns)
    and kind in ('object', 'array') as structured
  into col
  from collecta.inbound_endpoints e
  join pg_catalog.pg_attribute a on a.attrelid = e.relation and a.attname = inbound_cast_problem.column_name
    and not a.attisdropped
  where e.inbound_endpoint_id = inbound_cast_problem.inbound_endpoint_id;
  if not found or kind is null then
    return null;
  end if;
  if not col.structured then
    execute format('select collecta.cast_inbound_%s($1, $2)', col.function_number)
      using json_build_object(column_name, "values" -> column_name), column_name;
    return null;
  end if;
  return format('%s cannot be stored as %s', case when kind in ('object', 'array') then 'an ' || kind
    when kind = 'null' then kind else 'this ' || kind end, col.type);
exception when sqlstate 'CW060' then
  return sqlerrm;
when others then
  return format('%s cannot be stored as %s', case when kind in ('object', 'array') then 'an ' || kind
    when kind = 'null' then kind else 'this ' || kind end, col.type);
end
$$;
comment on function collecta.inbound_cast_problem(text, text, json) is
  'Why one mapped value cannot be stored in its column, in words that quote nothing of it; null if it can.';
--! EndIncluded inbound/internal/inbound_cast_problem.sql
--! Included inbound/internal/inbound_templates.sql
-- Each of the writer's functions begins with a check. Code of a table runs as the writer, which owns these functions,
-- and could make them SECURITY INVOKER, so that the next request would run them with collecta's rights. It cannot
-- change their text. The second check: an endpoint's row and its functions are looked up one after the other, and an
-- update of the endpoint can come between. A request that was mapped by one mapping must not be written by another.
create or replace function collecta.inbound_insert_template() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $template$ select $body$
#variable_conflict use_column
declare
  input pg_catalog.json;
  record_id pg_catalog.text;
  -- If the payload lacks some columns: lists of those that it has, for INSERT and for json_to_record.
  given_list pg_catalog.text[];
  given_definitions pg_catalog.text[];
  -- The JSON type of each mapped column's value; null where the payload lacks it.
  kinds pg_catalog.text[];
  wrong pg_catalog.text;
begin
  if current_user operator(pg_catalog.<>) @writer@::pg_catalog.name then
    raise exception using errcode = 'CW059', message = 'this function was altered';
  end if;
  if mapping_version operator(pg_catalog.<>) @mapping_version@ then
    raise exception using errcode = '40001', message = 'the mapping was changed meanwhile';
  end if;
  foreach input in array elements loop
    kinds := @kinds@;
    @check_values@
    @check_digits@
    if @complete@ then
      insert into @table@ as t (@list@)
      select @given_values@ from pg_catalog.json_to_record(input) v (@definitions@) where @shape@
      returning @key@ into record_id;
    else
      -- A column that the payload lacks is not named, so that it takes its default.
      select pg_catalog.array_agg(pg_catalog.quote_ident(c)), pg_catalog.array_agg(pg_catalog.format('%I %s', c, type))
      into given_list, given_definitions
      from rows from (pg_catalog.unnest(@names@::pg_catalog.text[]), pg_catalog.unnest(@types@::pg_catalog.text[]))
        u (c, type)
      where (input operator(pg_catalog.->) c) is not null;
      execute pg_catalog.format(@insert_given@, pg_catalog.array_to_string(given_list, ', '),
            pg_catalog.array_to_string(given_definitions, ', ')) into record_id using input;
    end if;
    if record_id is null then
      raise no_data_found;
    end if;
    record_ids := pg_catalog.array_append(record_ids, record_id);
    operations := pg_catalog.array_append(operations, 'created'::pg_catalog.text);
  end loop;
  -- If the table's triggers were deferred to the commit, they would run with the rights of the session.
  set constraints all immediate;
end
$body$ $template$;
comment on function collecta.inbound_insert_template() is
  'The body of write_inbound_<n> where every payload makes a record.';

create or replace function collecta.inbound_match_template() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $template$ select $body$
#variable_conflict use_column
declare
  input pg_catalog.json;
  complete pg_catalog.bool;
  v record;
  record_id pg_catalog.text;
  operation pg_catalog.text;
  -- If the payload lacks some columns: lists of those that it has, for INSERT, json_to_record and SET.
  given_list pg_catalog.text[];
  given_definitions pg_catalog.text[];
  given_assignments pg_catalog.text[];
  matching record;
  changed pg_catalog.int8;
  -- The JSON type of each mapped column's value; null where the payload lacks it.
  kinds pg_catalog.text[];
  wrong pg_catalog.text;
begin
  if current_user operator(pg_catalog.<>) @writer@::pg_catalog.name then
    raise exception using errcode = 'CW059', message = 'this function was altered';
  end if;
  if mapping_version operator(pg_catalog.<>) @mapping_version@ then
    raise exception using errcode = '40001', message = 'the mapping was changed meanwhile';
  end if;
  foreach input in array elements loop
    kinds := @kinds@;
    @check_values@
    complete := @complete@;
    select * into v from pg_catalog.json_to_record(input) v (@definitions@);
    @exact@
    @unmatched@
    @serialise@
    if not complete then
      select pg_catalog.array_agg(pg_catalog.quote_ident(c)), pg_catalog.array_agg(pg_catalog.format('%I %s', c, type)),
        pg_catalog.array_agg(pg_catalog.format('%I = v.%1$I', c))
          filter (where c operator(pg_catalog.<>) all (@matched@::pg_catalog.text[]))
      into given_list, given_definitions, given_assignments
      from rows from (pg_catalog.unnest(@names@::pg_catalog.text[]), pg_catalog.unnest(@types@::pg_catalog.text[]))
        u (c, type)
      where (input operator(pg_catalog.->) c) is not null;
    end if;
    for attempt in 1 .. 2 loop
      -- The record is locked first. So if the UPDATE changes no row, a trigger or rule has suppressed it.
      select pg_catalog.array_agg(m.key) as keys, pg_catalog.array_agg(m.leaf) as leaf,
        pg_catalog.array_agg(m.place) as place
      into matching
      from (
        select @key@ as key, t.tableoid as leaf, t.ctid as place from @table@ t where @matches@ and (@where@
        ) and @shape@ limit 2 for no key update of t) m;
      if pg_catalog.cardinality(matching.keys) operator(pg_catalog.>) 1 then
        raise too_many_rows;
      elsif matching.keys is not null then
        if complete then
          update @table@ t set @assignments@
          where t.tableoid operator(pg_catalog.=) matching.leaf[1] and t.ctid operator(pg_catalog.=) matching.place[1];
          get diagnostics changed = row_count;
        else
          execute pg_catalog.format(@update_given@,
            coalesce(pg_catalog.array_to_string(given_assignments, ', '), @unchanged@),
            pg_catalog.array_to_string(given_definitions, ', '))
          using input, matching.leaf[1], matching.place[1];
          get diagnostics changed = row_count;
        end if;
        -- If the table's triggers were deferred to the commit, they would run with the rights of the session.
        set constraints all immediate;
        record_id := matching.keys[1];
        operation := case when changed operator(pg_catalog.=) 0 then 'unchanged' else 'updated' end;
        exit;
      end if;
      begin
        if complete then
          insert into @table@ as t (@list@) select @given_values@ returning @key@ into record_id;
        else
          -- A column that the payload lacks is not named, so that it takes its default.
          execute pg_catalog.format(@insert_given@, pg_catalog.array_to_string(given_list, ', '),
            pg_catalog.array_to_string(given_definitions, ', ')) into record_id using input;
        end if;
        if record_id is null then
          raise no_data_found;
        end if;
        set constraints all immediate;
        operation := 'created';
        exit;
      exception when unique_violation then
        -- Another transaction has created the record since the search, or this role may not see or match it.
        if attempt operator(pg_catalog.=) 2 then
          raise;
        end if;
      end;
    end loop;
    record_ids := pg_catalog.array_append(record_ids, record_id);
    operations := pg_catalog.array_append(operations, operation);
  end loop;
end
$body$ $template$;
comment on function collecta.inbound_match_template() is
  'The body of write_inbound_<n> where a payload updates the record that it matches, or makes one.';

create or replace function collecta.inbound_cast_template() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $template$ select $body$
#variable_conflict use_column
declare
  v record;
  kinds constant pg_catalog.text[] := @kinds@;
  wrong pg_catalog.text;
begin
  if current_user operator(pg_catalog.<>) @writer@::pg_catalog.name then
    raise exception using errcode = 'CW059', message = 'this function was altered';
  end if;
  if column_name is null then
    -- This only plans the match, to find out whether records can be matched this way.
    select * into v from pg_catalog.json_to_record(input) v (@definitions@);
    perform from @table@ t where @matches@ and (@where@
    ) limit 0;
    return null;
  end if;
  @check_values@
  @check_digits@
  return case column_name @casts@
  end;
end
$body$ $template$;
comment on function collecta.inbound_cast_template() is
  'The body of cast_inbound_<n>: the value that a column would be given, as text. input has this column only.';

-- Most requests need nothing special: they are new, the budget has room, and their records can be written. Those are
-- written here, several in one transaction and with few statements. For anything else it returns null or fails, and
-- nothing is written; then each request goes through receive_inbound alone, which handles every case. A function for
-- each endpoint calls write_inbound_<n> by name: EXECUTE would plan that call anew for each request.
create or replace function collecta.inbound_accept_template() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $template$ select $body$
declare
  arrived constant timestamptz := clock_timestamp();
  wanted constant int := cardinality(bodies);
  first constant int := random() * @rate_limit@;
  hash text;
  taken int;
  body text;
  element json;
  elements json[] := array[]::json[];
  written record;
begin
  -- Two requests with the same key or body never run at once, so that the second one is answered as the first.
  foreach hash in array coalesce(key_hashes || body_digests, '{}') loop
    if not pg_try_advisory_xact_lock(1668246637, hashtext(@endpoint@ || hash)) then
      return null;
    end if;
  end loop;
  foreach body in array bodies loop
    element := body::json;
    -- Most payloads are mapped by a single expression, which costs less here than in a function of its own.
    element := case when json_typeof(element) = 'object' and octet_length(body) <= 8192 then @plain@ end;
    if element is null then
      element := (collecta.map_inbound_@number@(body::json, @mapping_version@)).elements[1];
      if element is null then
        return null;
      end if;
    end if;
    elements := elements || element;
  end loop;
  if checked_digests is not null then
    if exists (
      select from collecta.inbound_requests r
      where r.inbound_endpoint_id = @endpoint@ and r.body_digest = any (checked_digests)
        and r.state in ('accepted', 'partial', 'ignored'))
    then
      return null;
    end if;
  end if;
  -- The first free slots behind a random one are taken. Only if the budget is nearly used up, there is none. If there
  -- are some but too few, the whole budget is searched for the rest.
  update collecta.inbound_budgets b set taken_at = arrived
  where b.ctid = any (array(
      select f.ctid from collecta.inbound_budgets f
      where f.inbound_endpoint_id = @endpoint@ and f.slot between first and first + 50 * wanted
        and f.taken_at < arrived - interval '60 s'
      limit wanted
      for update skip locked))
    and exists (
      select from collecta.inbound_endpoints e
      where e.inbound_endpoint_id = @endpoint@ and e.state = 'active' and e.mapping_version = @mapping_version@
        and e.each is null and e.functions_are_current and (e.grouped or wanted = 1))
    and not exists (
      select from collecta.inbound_requests r
      where r.inbound_endpoint_id = @endpoint@ and r.key_hash = any (key_hashes)
        and r.state in ('accepted', 'partial', 'ignored'));
  get diagnostics taken = row_count;
  if taken = 0 then
    return null;
  elsif taken < wanted
    and taken + collecta.take_inbound_budget(@endpoint@, @rate_limit@, wanted - taken, arrived) < wanted
  then
    raise exception using errcode = 'CW061', message = 'the rate budget has no room for all of these requests';
  end if;
  written := collecta.write_inbound_@number@(elements, @mapping_version@);
  insert into collecta.inbound_requests (inbound_endpoint_id, received_at, state, operation, record_id,
    mapping_version, key_hash, body_digest, body)
  select @endpoint@, arrived, 'accepted', written.operations[i], written.record_ids[i], @mapping_version@,
    key_hashes[i], body_digests[i], bodies[i]
  from generate_series(1, wanted) i;
  return written.record_ids;
end
$body$ $template$;
comment on function collecta.inbound_accept_template() is
  'The body of accept_inbound_<n>, which the receiving process calls: it writes several ordinary requests of one '
  'endpoint in one transaction, stores them, and returns the ids of their records in the same order. '
  'If it returns null or fails, nothing was written, and each of them has to go '
  'through receive_inbound. Hashes may be null. checked_digests holds those of body_digests that make a request a '
  'repetition of an earlier one with the same digest.';
--! EndIncluded inbound/internal/inbound_templates.sql
--! Included inbound/internal/write_inbound_functions.sql
-- Writes an endpoint's four functions. Two run as the endpoint's writer, a role that can do nothing but this, since
-- the table's casts, checks, defaults and triggers run inside. Everything in them is qualified: what a trigger needs
-- from its types' schemas is in search_path, and somebody else may be able to create functions there.
create or replace function collecta.write_inbound_functions(inbound_endpoint_id text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  endpoint record;
  parts jsonb;
  shape text;
  task text;
  types text;
  signature text;
  settings text;
  template text;
  routine regprocedure;
  hash text := '';
  before constant jsonb := collecta.enter_citus();
begin
  -- First the endpoint, which attach_module and detach_module change too: the module is read after they have ended.
  -- Everybody locks in this order: rows of the budget, endpoints, this lock.
  perform from collecta.inbound_endpoints e
  where e.inbound_endpoint_id = write_inbound_functions.inbound_endpoint_id for update;
  perform pg_advisory_xact_lock(1668246636, 8);
  select e.*, v.key_columns, m.current_version,
    collecta.inbound_shape(e.relation, e.columns, m.current_version) as shape,
    collecta.inbound_match_columns(e.columns, e.match_columns, v.scope_column) as matched
  into endpoint
  from collecta.inbound_endpoints e
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  join collecta.module_versions v on v.version = m.current_version
  where e.inbound_endpoint_id = write_inbound_functions.inbound_endpoint_id;
  if not found then
    -- A request or a call that meets detach_module is tried again, and then finds no module.
    raise exception using errcode = '40001', message = 'the module of the inbound endpoint was detached';
  end if;

  shape := format(
    -- Neither the table's name, which another table may get, nor its number, which is another one in a restored copy.
    'collecta.is_inbound_shape(%L::pg_catalog.text, %s, %L::pg_catalog.text)',
    endpoint.inbound_endpoint_id, endpoint.current_version, endpoint.shape);
  parts := collecta.inbound_template_parts(endpoint.relation, endpoint.columns, endpoint.matched, endpoint.key_columns,
    shape,
      array(select m.column_name from collecta.read_inbound_mapping(endpoint.mapping) m
        where 'unchecked' = any (m.forms)))
    || collecta.inbound_map_parts(endpoint.mapping, endpoint.each, endpoint.each_alone, endpoint.max_elements)
    || jsonb_build_object(
      'writer', quote_literal(collecta.written_owner(endpoint.writer)),
      'where', coalesce(endpoint.match_where, 'true'),
      'shape', shape,
      'serialise', case when endpoint.matched <> '{}'
        and not collecta.is_unique_key(endpoint.relation, endpoint.matched, endpoint.match_where)
        then format('perform pg_catalog.pg_advisory_xact_lock(1668246638, %s);', endpoint.relation::oid::int) end,
      'endpoint', quote_literal(endpoint.inbound_endpoint_id), 'number', endpoint.function_number,
      'mapping_version', endpoint.mapping_version, 'rate_limit', endpoint.rate_limit_per_minute);

  foreach task in array array['write', 'cast', 'map', 'accept'] loop
    types := case task when 'write' then 'json[], int' when 'cast' then 'json, text' when 'map' then 'json, int'
      else 'text[], text[], text[], text[]' end;
    signature := case task
      when 'write' then '(elements json[], mapping_version int, out record_ids text[], out operations text[])'
      when 'cast' then '(input json, column_name text) returns text'
      when 'map' then
        '(document json, mapping_version int, out elements json[], out problem text, out column_name text)'
      else '(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]) returns text[]' end;
    settings := case task
      when 'map' then 'stable'
      -- A request that waits for a lock must not hold up the others of its group for long. Left to itself, PostgreSQL
      -- plans some statements anew at each call, since it cannot guess how long the arrays are. A plan that was made
      -- while inbound_requests was small would read the whole table, and would be kept while the table grows.
      when 'accept' then 'volatile security definer set search_path = pg_catalog, pg_temp '
        'set lock_timeout = ''100ms'' set plan_cache_mode = force_generic_plan set enable_seqscan = off'
      else collecta.inbound_write_settings(endpoint.relation, endpoint.columns || endpoint.key_columns,
        endpoint.match_where is not null) end;
    template := case when task = 'cast' then collecta.inbound_cast_template()
      when task = 'map' then collecta.inbound_map_template()
      when task = 'accept' then collecta.inbound_accept_template()
      when endpoint.matched = '{}' then collecta.inbound_insert_template()
      else collecta.inbound_match_template() end;
    execute format('create or replace function collecta.%I%s language plpgsql %s as %L',
      format('%s_inbound_%s', task, endpoint.function_number), signature, settings,
      collecta.fill_template(template, parts));
    routine := format('collecta.%s_inbound_%s(%s)', task, endpoint.function_number, types)::regprocedure;
    if task in ('write', 'cast') then
      perform collecta.own_function(routine, endpoint.writer);
      hash := hash || collecta.function_hash(routine);
    else
      perform collecta.revoke_execute(routine);
    end if;
    if task = 'accept' and to_regrole(quote_ident(collecta.role_name('collecta_inbound'))) is not null then
      execute format('grant execute on function %s to %I', routine, collecta.role_name('collecta_inbound'));
    end if;
  end loop;

  update collecta.inbound_endpoints e
  set written_for = endpoint.shape, functions_are_current = true,
    written_hash = md5(hash || collecta.inbound_generator()),
    grouped = collecta.can_group_inbound(endpoint.relation) and parts ->> 'serialise' is null,
    scalar_columns = array(select jsonb_array_elements_text(parts -> 'scalars'))
  where e.inbound_endpoint_id = write_inbound_functions.inbound_endpoint_id;
  perform collecta.leave_citus(before);
end
$$;
comment on function collecta.write_inbound_functions(text) is
  'Writes an inbound endpoint''s map_inbound_<n>, write_inbound_<n>, cast_inbound_<n> and accept_inbound_<n> anew: '
  'done when its mapping or what they depend on changed, and when somebody altered or dropped them.';

create or replace function collecta.inbound_template_parts(
  relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]
) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  parts jsonb;
  unequal text;
  key text;
begin
  with recursive base as (
    select a.attname::text as name, a.attnum, a.atttypid as type_id, format_type(a.atttypid, a.atttypmod) as type,
      a.atttypid as base_id, a.atttypmod as modifier
    from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attname = any (columns) and a.attnum > 0 and not a.attisdropped
    union all
    select b.name, b.attnum, b.type_id, b.type, t.typbasetype, t.typtypmod
    from base b join pg_catalog.pg_type t on t.oid = b.base_id and t.typtype = 'd'),
  col as (
    select b.*, row_number() over (order by b.attnum) as place,
      case when b.name = any (unchecked) then '' else collecta.inbound_value_check(b.name, t.oid) end as odd,
      e.operator, e.operand_cast, b.name = any (matched) as is_matched,
      t.typcategory not in ('A', 'C') and t.oid not in ('json'::regtype, 'jsonb'::regtype) as is_scalar,
      -- The type without its limits, to compare with: numeric(10,2) rounds 10.005 silently.
      case when b.modifier >= 0 and coalesce(nullif(t.typelem, 0), t.oid) = 'numeric'::regtype
        then format_type(t.oid, null) end as unlimited
    from base b join pg_catalog.pg_type t on t.oid = b.base_id and t.typtype <> 'd'
    cross join lateral collecta.equality_of(case when b.name = any (matched) then b.type_id end) e)
  select jsonb_build_object(
      'table', relation::text,
      'names', quote_literal(array_agg(c.name order by c.attnum)),
      'types', quote_literal(array_agg(c.type order by c.attnum)),
      'matched', quote_literal(matched),
      'definitions', string_agg(format('%I %s', c.name, c.type), ', ' order by c.attnum),
      'list', string_agg(quote_ident(c.name), ', ' order by c.attnum),
      'given_values', string_agg(format('v.%I', c.name), ', ' order by c.attnum),
      'kinds', format('array[%s]', string_agg(format('pg_catalog.json_typeof(input operator(pg_catalog.->) %L)',
        c.name), ', ' order by c.attnum)),
      'complete', 'pg_catalog.num_nulls(variadic kinds) operator(pg_catalog.=) 0',
      'assignments', coalesce(
        string_agg(format('%I = v.%1$I', c.name), ', ' order by c.attnum) filter (where not c.is_matched),
        quote_ident(matched[1]) || ' = t.' || quote_ident(matched[1])),
      'matches', coalesce(string_agg(format('t.%1$I%2$s %3$s v.%1$I%2$s', c.name, c.operand_cast, c.operator), ' and ')
        filter (where c.is_matched), 'false'),
      -- The first condition costs little, and is false for most payloads. The second one finds the column.
      'check_values', format(E'if kinds operator(pg_catalog.&&) ''{object,array}''::pg_catalog.text[]%s then\n'
        '      wrong := case %s end;\n      if wrong is not null then\n        raise exception using '
        'errcode = ''22P02'', column = wrong, message = ''the value is of another kind'';\n      end if;\n    end if;',
        string_agg(c.odd, '' order by c.attnum), string_agg(format('when %s%s then %L',
          case when c.is_scalar then format('kinds[%s] operator(pg_catalog.=) any '
            '(''{object,array}''::pg_catalog.text[])', c.place) else 'false' end,
          c.odd, c.name), E'\n        ' order by c.attnum)),
      'unmatched', string_agg(format(E'\n  if (input operator(pg_catalog.->>) %1$L) is null then\n'
        '    raise exception using errcode = ''CW060'', column = %1$L, '
        'message = ''records are matched by this column, so it must be there and not null'';\n  end if;', c.name), '')
        filter (where c.is_matched),
      'casts', string_agg(format(E'\n    when %L then (select v.%2$I::pg_catalog.text '
        'from pg_catalog.json_to_record(input) v (%2$I %3$s))', c.name, c.name, c.type), '' order by c.attnum),
      'exact', string_agg(format(E'\n  if v.%1$I operator(pg_catalog.<>) (select w.%1$I '
        'from pg_catalog.json_to_record(input) w (%1$I %2$s)) then\n'
        '    raise exception using errcode = ''CW060'', column = %1$L, message = %3$L;\n  end if;',
        c.name, c.unlimited, format('it has more digits than %s keeps', c.type)), '')
        filter (where c.unlimited is not null),
      'scalars', coalesce(jsonb_agg(c.name) filter (where c.is_scalar), '[]')),
    string_agg(c.name, ', ') filter (where c.is_matched and c.operator is null)
  into parts, unequal
  from col c;
  if parts ->> 'names' is null or cardinality((select array_agg(a.attname) from pg_catalog.pg_attribute a
      where a.attrelid = relation and a.attname = any (columns) and not a.attisdropped)) <> cardinality(columns) then
    raise exception using errcode = 'CW053', message = format('a mapped column of %s was renamed or dropped', relation),
      detail = format('Not there: %s.', (select string_agg(c, ', ') from unnest(columns) c
        where not exists (select from pg_catalog.pg_attribute a
                          where a.attrelid = relation and a.attname = c and not a.attisdropped))),
      hint = format('select inbound_endpoint_id, mapping from collecta.inbound_endpoints '
        'where relation = %L::regclass; -- update_inbound_endpoint takes a mended mapping', relation);
  elsif unequal is not null then
    raise exception using errcode = 'CW054',
      message = format('a record of %s cannot be matched by %s', relation, unequal),
      detail = 'Its type has no equality operator that indexes could use.',
      hint = format('select inbound_endpoint_id, match_columns from collecta.inbound_endpoints '
        'where relation = %L::regclass; -- update_inbound_endpoint takes other columns', relation);
  end if;
  key := case cardinality(key_columns)
    when 1 then format('pg_catalog.to_json(t.%I) operator(pg_catalog.#>>) ''{}''', key_columns[1])
    else (select format('pg_catalog.concat(''['', %s, '']'')',
            string_agg(format('pg_catalog.to_json(t.%I)', k), ', '','', ' order by place))
          from unnest(key_columns) with ordinality u (k, place)) end;
  -- format() fills these two again for each payload, with the columns that it has.
  return parts || jsonb_build_object('key', key,
    'check_digits', format(
      E'declare\n  v record;\nbegin\n  select * into v from pg_catalog.json_to_record(input) v (%s);',
      parts ->> 'definitions') || (parts ->> 'exact') || E'\nend;',
    'unchanged', quote_literal(quote_ident(matched[1]) || ' = t.' || quote_ident(matched[1])),
    'insert_given', quote_literal(format(
      'insert into %s as t (%%1$s) select %%1$s from pg_catalog.json_to_record($1) v (%%2$s) '
      'where %s returning %s',
      replace(relation::text, '%', '%%'), replace(shape, '%', '%%'), replace(key, '%', '%%'))),
    'update_given', quote_literal(format(
      'update %s t set %%s from pg_catalog.json_to_record($1) v (%%s) '
      'where t.tableoid operator(pg_catalog.=) $2 and t.ctid operator(pg_catalog.=) $3',
      replace(relation::text, '%', '%%'))));
end
$$;
comment on function collecta.inbound_template_parts(regclass, text[], text[], text[], text, text[]) is
  'What the templates of an inbound endpoint''s functions are filled with, read from the catalog.';

-- PostgreSQL reads 1712131200 as a day of the year 171213, and "now" as the time of the request. In a payload these are
-- mistakes, unless the mapping says epoch_seconds, epoch_milliseconds or unchecked.
create or replace function collecta.inbound_value_check(column_name text, type_id oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select format(' or exists (select from pg_catalog.json_array_elements(case '
      'pg_catalog.json_typeof(input operator(pg_catalog.->) %1$L) when ''array'' then input operator(pg_catalog.->) '
        '%1$L '
      'else pg_catalog.json_build_array(input operator(pg_catalog.->) %1$L) end) e (x) '
      'where (e.x operator(pg_catalog.#>>) ''{}'') operator(pg_catalog.~) %2$L collate pg_catalog."C"%3$s)',
      column_name, '(?i)(^|[^a-z])(' || k.words || ')([^a-z]|$)|' || k.forms,
      case when k.is_time then ' or pg_catalog.json_typeof(e.x) operator(pg_catalog.=) ''number''' end)
    from (
      select 'now|today|tomorrow|yesterday|epoch|allballs|infinity|inf' as words, true as is_time,
        -- Numbers in quotes, except the eight digits of a day in ISO 8601's basic format; and Julian days.
        '^[ \u0009-\u000d]*([-+]?([0-9]{1,7}|[0-9]{9,})(\.[0-9]*)?|[-+][0-9]{8}|j[0-9.]+)[ \u0009-\u000d]*$' as forms
      where base.oid = any ('{date,time,timetz,timestamp,timestamptz}'::regtype[]::oid[])
      union all
      -- A thousand digits, or an exponent beyond 350: the same bounds as for numbers that are not in quotes.
      select 'nan|infinity|inf', false,
        '[0-9.]e[-+]?0*([0-9]{4,}|[4-9][0-9]{2}|3[6-9][0-9]|35[1-9])|([0-9]{250}){4}[0-9]'
      where base.oid = any ('{numeric,float4,float8,interval}'::regtype[]::oid[])) k), '')
  from (
    select coalesce(r.rngsubtype, m.rngsubtype, nullif(t.typelem, 0), t.oid) as oid
    from pg_catalog.pg_type t
    left join pg_catalog.pg_range r on r.rngtypid = t.oid
    left join pg_catalog.pg_range m on m.rngmultitypid = t.oid
    where t.oid = type_id) base
$$;
comment on function collecta.inbound_value_check(text, oid) is
  'SQL that is true of a value that its column''s type would take for something else than was meant.';

create or replace function collecta.inbound_match_columns(columns text[], match_columns text[], scope_column text)
returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when match_columns = '{}' or scope_column is null
      or scope_column = any (match_columns) or scope_column <> all (columns) then match_columns
    else match_columns || scope_column end
$$;
comment on function collecta.inbound_match_columns(text[], text[], text) is
  'The columns that a record is matched by: the scope column too, where it is mapped, so that no tenant''s record is '
  'taken for another''s.';

create or replace function collecta.inbound_type_schemas(relation regclass) returns setof name
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive type_in_use as (
    select a.atttypid as oid from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    union
    select part.oid from type_in_use u join pg_catalog.pg_type t on t.oid = u.oid
    left join pg_catalog.pg_range r on r.rngtypid = t.oid
    cross join lateral (values (nullif(t.typbasetype, 0)), (nullif(t.typelem, 0)), (r.rngsubtype)) part (oid)
    where part.oid is not null)
  select distinct n.nspname
  from type_in_use u join pg_catalog.pg_type t on t.oid = u.oid and t.typtype in ('b', 'r', 'm') and t.typelem = 0
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace and n.nspname not in ('pg_catalog', 'pg_toast')
  order by n.nspname
$$;
comment on function collecta.inbound_type_schemas(regclass) is
  'The schemas of the table''s types that have operators of their own (extensions''), which its triggers may need.';

-- The values of the usual types are read and printed the same way whatever a session's settings are. For other types
-- the settings are fixed. Each of them makes every call of the function some microseconds slower.
create or replace function collecta.inbound_write_settings(relation regclass, columns text[], has_condition boolean)
returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'volatile security definer set search_path = ' || array_to_string('pg_catalog'::text
      || array(select quote_ident(s) from collecta.inbound_type_schemas(relation) s) || 'pg_temp'::text, ', ')
    || ' set plan_cache_mode = auto set enable_seqscan = on'
    || case when has_condition or exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = relation and a.attname = any (columns) and a.atttypid <> all (
          '{text,varchar,bpchar,bool,int2,int4,int8,numeric,uuid,json,jsonb}'::regtype[]::oid[]))
      then ' set "TimeZone" = ''UTC'' set "DateStyle" = ''ISO, MDY'' set "IntervalStyle" = ''postgres'''
        ' set bytea_output = ''hex'' set extra_float_digits = 1'
      else '' end
$$;
comment on function collecta.inbound_write_settings(regclass, text[], boolean) is
  'The settings of an inbound endpoint''s write_inbound_<n> and cast_inbound_<n>.';

create or replace function collecta.can_group_inbound(relation regclass) returns boolean
language sql stable
as $$
  select c.relkind = 'r' and not c.relhasrules and not c.relrowsecurity
    and not exists (
      select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
      where t.tgrelid = relation and not t.tgisinternal and p.pronamespace <> 'collecta_modules'::regnamespace)
    -- Functions in defaults and check constraints. Those that belong to PostgreSQL have no rows in pg_depend.
    and not exists (
      select from pg_catalog.pg_depend d
      join pg_catalog.pg_proc p on p.oid = d.refobjid and d.refclassid = 'pg_proc'::regclass
        and p.pronamespace <> 'collecta'::regnamespace
      join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
      where d.classid = 'pg_attrdef'::regclass
          and d.objid in (select a.oid from pg_catalog.pg_attrdef a where a.adrelid = relation)
        or d.classid = 'pg_constraint'::regclass
          and d.objid in (select k.oid from pg_catalog.pg_constraint k where k.conrelid = relation))
    and not exists (
      select from pg_catalog.pg_constraint k where k.condeferrable and relation in (k.conrelid, k.confrelid))
  from pg_catalog.pg_class c where c.oid = relation
$$;
comment on function collecta.can_group_inbound(regclass) is
  'Whether requests that share a transaction write this table as each would alone: nothing of the user''s that runs '
  'with one record could leave something behind for the next.';

create or replace function collecta.inbound_shape(relation regclass, columns text[], version int) returns text
language sql stable
as $$
  select concat_ws(':', relation, version, collecta.can_group_inbound(relation),
    (select count(*) from pg_catalog.pg_index i where i.indrelid = relation and i.indisunique and i.indisvalid),
    -- The functions name the types, so a type that was renamed or moved counts as another one.
    (select string_agg(concat_ws(' ', a.attname, a.atttypid, t.typname, t.typnamespace, a.atttypmod), ','
       order by a.attnum)
     from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
     where a.attrelid = relation and a.attname = any (columns) and not a.attisdropped))
$$;
comment on function collecta.inbound_shape(regclass, text[], int) is
  'What an inbound endpoint''s functions depend on, as text to compare.';

-- It is declared immutable so that it is called when the statement is planned, and costs nothing when the statement
-- runs. PostgreSQL plans a statement again whenever one of its tables, or an index or trigger of one, has changed.
create or replace function collecta.is_inbound_shape(inbound_endpoint_id text, version int, expected text)
returns boolean
language plpgsql immutable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from collecta.inbound_endpoints e
    where e.inbound_endpoint_id = is_inbound_shape.inbound_endpoint_id
      and collecta.inbound_shape(e.relation, e.columns, version) = expected)
  then
    raise exception using errcode = 'CW059', message = format('the table of %s has changed', inbound_endpoint_id);
  end if;
  return true;
end
$$;
comment on function collecta.is_inbound_shape(text, int, text) is
  'Raises CW059 if the table of an inbound endpoint is no longer what its functions were written for.';
--! EndIncluded inbound/internal/write_inbound_functions.sql
--! Included inbound/internal/mend_inbound.sql
create or replace function collecta.inbound_generator() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select md5(string_agg(p.prosrc, '' order by p.proname collate "C"))
  from pg_catalog.pg_proc p
  where p.pronamespace = 'collecta'::regnamespace
    and (p.proname ~ '^inbound_.*_(template|parts|sql|check|settings)$' collate "C"
      or p.proname in ('equality_of', 'fill_template', 'write_inbound_functions'))
$$;
comment on function collecta.inbound_generator() is
  'Returns a hash of the functions that generate those of inbound endpoints. After an upgrade it is another one.';

create or replace function collecta.broken_inbound_endpoints() returns table (inbound_endpoint_id text, problem text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select e.inbound_endpoint_id,
    case when f.found < 4 then 'one of its functions was dropped'
      else 'one of its functions was altered, or is of another version' end
  from collecta.inbound_endpoints e
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  join pg_catalog.pg_class r on r.oid = e.relation
  cross join (select collecta.inbound_generator() as generator offset 0) g
  cross join lateral (
    -- The writer does not own map_inbound_<n> and accept_inbound_<n>, so a table's code cannot alter them. check_grants
    -- looks at their privileges.
    select count(*) as found, md5(string_agg(
      case when t.task in ('write', 'cast') then collecta.function_hash(p.oid) end, '' order by t.place) || g.generator)
      as hash
    from unnest('{write,cast,map,accept}'::text[]) with ordinality t (task, place)
    join pg_catalog.pg_proc p on p.pronamespace = 'collecta'::regnamespace
      and p.proname = format('%s_inbound_%s', t.task, e.function_number)) f
  where e.state <> 'deleted' and (f.found < 4 or f.hash is distinct from e.written_hash)
$$;
comment on function collecta.broken_inbound_endpoints() is
  'Inbound endpoints whose written functions are no longer as they were written. Code attached to a table can do '
  'that to those of its own writer.';

create or replace function collecta.mend_inbound(anew boolean default false) returns setof text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint_id text;
begin
  -- All endpoints are locked before the first is written: see write_inbound_functions.
  foreach endpoint_id in array array(
    select e.inbound_endpoint_id from collecta.inbound_endpoints e
    where e.inbound_endpoint_id in (
      select b.inbound_endpoint_id from collecta.broken_inbound_endpoints() b
      union all
      select a.inbound_endpoint_id from collecta.inbound_endpoints a
      join collecta.modules m on m.slug = a.module and m.relation = a.relation
      join pg_catalog.pg_class r on r.oid = a.relation
      where mend_inbound.anew and a.state <> 'deleted')
    order by e.inbound_endpoint_id
    for update)
  loop
    begin
      perform collecta.write_inbound_functions(endpoint_id);
      return next endpoint_id;
    exception when others then
      if anew and sqlstate ~ '^(40|55P03)' collate "C" then
        raise;
      end if;
      -- A column may have been renamed, or a lock held. collecta.health keeps its row, and the next call tries again.
      raise warning 'collecta: the functions of % could not be written: %', endpoint_id, sqlstate;
    end;
  end loop;
end
$$;
comment on function collecta.mend_inbound(boolean) is
  'Writes the functions of broken inbound endpoints anew, or with anew those of all; returns their ids.';
--! EndIncluded inbound/internal/mend_inbound.sql
--! Included inbound/internal/grant_inbound.sql
-- It runs as the caller, who must own the table. The writer gets rights on exactly the columns that endpoints map.
create or replace function collecta.grant_inbound(relation regclass, function_number int) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  run_as regrole;
  owner regrole;
  mapped text[];
  written text[]; -- columns, quoted, as are unwritten and keys
  unwritten text[];
  keys text[];
  sequences regclass[];
  schema_name text;
begin
  select p.proowner, c.relowner into run_as, owner
  from pg_catalog.pg_proc p join pg_catalog.pg_class c on c.oid = relation
  where p.proname = format('write_inbound_%s', function_number) and p.pronamespace = 'collecta'::regnamespace
    -- The rights that an owner has on its own table are not changed.
    and p.proowner <> c.relowner and not (select r.rolsuper from pg_catalog.pg_roles r where r.oid = p.proowner);
  if not found then
    return;
  end if;
  select array_agg(distinct c) into mapped
  from collecta.inbound_endpoints e
  cross join unnest(e.columns) c
  -- A column may have been renamed or dropped. Then its endpoint fails, and no other one.
  join pg_catalog.pg_attribute a on a.attrelid = e.relation and a.attname = c and not a.attisdropped
  where e.relation = grant_inbound.relation and e.state <> 'deleted'
      and to_regrole(quote_ident(collecta.role_name(e.writer))) = run_as;
  select array_agg(quote_ident(a.attname)) filter (where a.attname = any (mapped)),
    array_agg(quote_ident(a.attname)) filter (where (a.attname = any (mapped)) is not true)
  into written, unwritten
  from pg_catalog.pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped;
  select array['tableoid', 'ctid'] || coalesce(array_agg(quote_ident(c)), '{}') into keys
  from (
    select unnest(v.key_columns) as c
    from collecta.modules m join collecta.module_versions v on v.version = m.current_version
    where m.relation = grant_inbound.relation
    union
    -- The writer must be able to read the columns that match_where names.
    select a.attname from collecta.inbound_endpoints e
    join pg_catalog.pg_attribute a on a.attrelid = e.relation and a.attnum > 0 and not a.attisdropped
    where e.relation = grant_inbound.relation and e.state <> 'deleted'
      and to_regrole(quote_ident(collecta.role_name(e.writer))) = run_as
      and a.attname in (
        select w from regexp_split_to_table(e.match_where, '[][[:space:]()<>=!+*/%^|&#~?,.;:"''-]+' collate "C") w
        union all
        select lower(w collate "C")
        from regexp_split_to_table(e.match_where, '[][[:space:]()<>=!+*/%^|&#~?,.;:"''-]+' collate "C") w)) k;
  select array_agg(d.refobjid::regclass) into sequences
  from pg_catalog.pg_attrdef a
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = a.oid
    and d.refclassid = 'pg_catalog.pg_class'::regclass
  join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind = 'S'
  where a.adrelid = relation;

  if unwritten is not null then
    execute format('revoke select (tableoid, ctid, %1$s), insert (%1$s), update (%1$s) on %2$s from %3$s',
      array_to_string(unwritten, ', '), relation, run_as);
  end if;
  if written is not null then
    execute format('grant select (%1$s), insert (%1$s), update (%1$s) on %2$s to %3$s',
      array_to_string(written, ', '), relation, run_as);
    execute format('grant select (%s) on %s to %s', array_to_string(keys, ', '), relation, run_as);
    for schema_name in
      select n.nspname from pg_catalog.pg_namespace n
      where (n.nspname in (select s from collecta.inbound_type_schemas(relation) s)
          or n.oid = (select c.relnamespace from pg_catalog.pg_class c where c.oid = relation))
        and not has_schema_privilege(run_as, n.oid, 'usage')
    loop
      execute format('grant usage on schema %I to %s', schema_name, run_as);
    end loop;
  end if;
  if sequences is not null then
    if written is null then
      execute format('revoke usage on sequence %s from %s', array_to_string(sequences, ', '), run_as);
    else
      execute format('grant usage on sequence %s to %s', array_to_string(sequences, ', '), run_as);
    end if;
  end if;
  -- If the caller has the rights but may not pass them on, GRANT only warns. So the result is checked.
  if exists (select from unnest(mapped) c cross join unnest('{select,insert,update}'::text[]) p
             where not has_column_privilege(run_as, relation, c, p)) then
    raise insufficient_privilege using message = 'the columns were not granted';
  end if;
exception when insufficient_privilege then
  raise exception using errcode = 'CW056',
    message = format('%s may not be granted to %s by %s', relation, run_as, current_user),
    detail = sqlerrm || '.',
    hint = format('As its owner, who needs to be a member of the role that installed collecta: set role %s; '
      'then the same call again.', owner);
end
$$;
comment on function collecta.grant_inbound(regclass, int) is
  'Grants the writer of an inbound endpoint SELECT, INSERT and UPDATE on mapped columns, SELECT on the key and on what '
  'match_where names, and USAGE on the sequences of defaults; takes away what none of its endpoints maps any more.';
--! EndIncluded inbound/internal/grant_inbound.sql
--! Included inbound/internal/check_inbound.sql
create or replace function collecta.check_inbound()
returns table (severity text, problem text, subject text, detail text, hint text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
begin
  return query
  select 'warning', 'inbound requests failed', r.inbound_endpoint_id,
    format('%s authentic requests since yesterday could not be written. The last came at %s.',
           count(*), max(r.received_at)),
    format('select request_id, reason, column_name from collecta.inbound_requests '
           'where inbound_endpoint_id = %L and state = ''failed''; '
           'select collecta.retry_inbound(%1$L); -- once the cause is mended', r.inbound_endpoint_id)
  from collecta.inbound_endpoints e
  join collecta.inbound_requests r on r.inbound_endpoint_id = e.inbound_endpoint_id
  where r.state = 'failed' and r.received_at > now() - interval '1 day'
  group by r.inbound_endpoint_id;

  return query
  select 'error', 'inbound function is broken', b.inbound_endpoint_id,
    format('Of the functions written for module %s: %s. Code attached to a table can do that to its writer''s.',
           e.module, b.problem),
    format('select collecta.update_inbound_endpoint(%L); -- maintain() and the next request do it too',
      b.inbound_endpoint_id)
  from collecta.broken_inbound_endpoints() b
  join collecta.inbound_endpoints e on e.inbound_endpoint_id = b.inbound_endpoint_id;

  return query
  select 'error', 'mapped column is gone', e.inbound_endpoint_id,
    format('%s has no column %s any more: it was renamed or dropped.', e.relation::regclass,
      string_agg(format('%I', c), ', ')),
    format('select mapping from collecta.inbound_endpoints where inbound_endpoint_id = %L; '
      '-- update_inbound_endpoint takes one with the present names', e.inbound_endpoint_id)
  from collecta.inbound_endpoints e
  join pg_catalog.pg_class r on r.oid = e.relation
  cross join unnest(e.columns) c
  where e.state <> 'deleted' and not exists (
    select from pg_catalog.pg_attribute a where a.attrelid = e.relation and a.attname = c and not a.attisdropped)
  group by e.inbound_endpoint_id, e.relation;

  return query
  select 'error', 'inbound writer is shared', w.writer::text,
    format('Code attached to the inbound tables of %s runs as this one role, so that one''s can write the other''s.',
           string_agg(distinct w.owner, ', ' order by w.owner)),
    format('create role %1$I nologin; grant %1$I to %2$I; -- for a new inbound endpoint with writer => %1$L',
           collecta.role_name('collecta_writer_' || btrim(min(w.owner), '"')), current_user)
  from (
    select e.writer, c.relowner::regrole::text collate "C" as owner
    from collecta.inbound_endpoints e join pg_catalog.pg_class c on c.oid = e.relation
    where e.state <> 'deleted' and collecta.written_owner(e.writer) = collecta.role_name(e.writer)) w
  group by w.writer having count(distinct w.owner) > 1;
end
$$;
comment on function collecta.check_inbound() is 'Rows of collecta.health about inbound endpoints.';
--! EndIncluded inbound/internal/check_inbound.sql
--! Included inbound/internal/write_inbound.sql
create or replace function collecta.earlier_inbound(
  inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text,
  out same boolean, out record_id text, out results json
)
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  -- Another request with the same key waits here until this one has committed or failed. Keys are locked before
  -- digests, so that two requests never wait for each other.
  if key_hash is not null then
    perform pg_advisory_xact_lock(1668246637, hashtext(earlier_inbound.inbound_endpoint_id || key_hash));
    select coalesce(earlier_inbound.body is null or r.body = earlier_inbound.body
        or collecta.is_same_json(r.body, earlier_inbound.body), false), r.record_id, r.results
    into same, record_id, results
    from collecta.inbound_requests r
    where r.inbound_endpoint_id = earlier_inbound.inbound_endpoint_id and r.key_hash = earlier_inbound.key_hash
      and r.state in ('accepted', 'partial', 'ignored');
  end if;
  if same is null and body_digest is not null then
    perform pg_advisory_xact_lock(1668246637, hashtext(earlier_inbound.inbound_endpoint_id || body_digest));
  end if;
  if same is null and check_digest then
    select true, r.record_id, r.results into same, record_id, results
    from collecta.inbound_requests r
    where r.inbound_endpoint_id = earlier_inbound.inbound_endpoint_id and r.body_digest = earlier_inbound.body_digest
      and r.state in ('accepted', 'partial', 'ignored') and r.received_at > now() - digest_window
    order by r.received_at limit 1;
  end if;
end
$$;
comment on function collecta.earlier_inbound(text, text, text, boolean, interval, text) is
  'The request that came before with the same key, or within the window with the same body. same is false where the '
  'key came with other JSON and body is not null.';

create or replace function collecta.is_same_json(a text, b text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return a::jsonb = b::jsonb;
exception when others then
  return false;
end
$$;
comment on function collecta.is_same_json(text, text) is 'Whether two texts are the same JSON, however it is spelt.';

create or replace function collecta.write_inbound(
  inbound_endpoint_id text, function_number int, mapping_version int, stale boolean, single boolean, alone boolean,
  body text, done json, final boolean,
  out state text, out record_id text, out operation text, out results json, out code text, out message text,
  out reason text, out column_name text
)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  call constant text :=
    format('select w.record_ids[1], w.operations[1] from collecta.write_inbound_%s(array[$1], $2) w', function_number);
  elements json[];
  place int := 0;
  element json;
  answers json[] := array[]::json[];
  failure record;
  rewrite boolean := stale;
begin
  state := 'accepted';
  for attempt in 1 .. 2 loop
    begin
      code := null;
      message := null;
      if rewrite then
        perform collecta.write_inbound_functions(inbound_endpoint_id);
      end if;
      execute format('select m.elements, m.problem, m.column_name from collecta.map_inbound_%s($1, $2) m',
        function_number)
      into elements, reason, column_name using body::json, mapping_version;
      if reason is not null then
        state := 'failed';
        return;
      elsif single then
        execute call into record_id, operation using elements[1], mapping_version;
        return;
      end if;
      place := 0;
      answers := '{}';
      foreach element in array elements loop
        place := place + 1;
        if (done -> (place - 1) ->> 'recordId') is not null then
          answers := answers || (done -> (place - 1));
          continue;
        end if;
        begin
          if (element ->> 'problem') is not null then
            raise exception using errcode = 'CW060', message = element ->> 'problem',
              column = coalesce(element ->> 'column', '');
          end if;
          execute call into record_id, operation using element -> 'values', mapping_version;
          answers := answers || json_build_object('recordId', record_id, 'operation', operation);
        exception when others then
          if not alone or sqlstate ~ '^(40|53|55P03|57|58|XX|CW059|42883)' collate "C"
              or not final and sqlstate in ('42P01', '42703', '42704', '3F000') then
            raise;
          end if;
          state := 'partial';
          get stacked diagnostics code = returned_sqlstate, message = message_text, column_name = column_name,
            reason = constraint_name;
          select f.* into failure
          from collecta.inbound_failure(inbound_endpoint_id, code, message, column_name, reason, element -> 'values') f;
          answers := answers || json_build_object('recordId', null, 'detail', failure.reason, 'column',
            failure.column_name);
        end;
      end loop;
      record_id := null;
      operation := null;
      results := array_to_json(answers);
      if state = 'partial' then
        reason := failure.reason;
        column_name := failure.column_name;
        if (select bool_and(a ->> 'recordId' is null) from unnest(answers) a) then
          state := 'failed';
        end if;
      end if;
      return;
    exception when others then
      get stacked diagnostics code = returned_sqlstate, message = message_text, column_name = column_name,
        reason = constraint_name;
      -- After a conflict the caller tries the whole request again. If the server lacks resources, the sender has to.
      if code ~ '^(53|55P03|57|58|XX)' collate "C" or code ~ '^40' collate "C" and not final then
        raise;
      end if;
    end;
    -- A mapping that was changed meanwhile has changed the functions and the writer's rights, too.
    if not final and not exists (
      select from collecta.inbound_endpoints e
      where e.inbound_endpoint_id = write_inbound.inbound_endpoint_id
        and e.mapping_version = write_inbound.mapping_version)
    then
      raise exception using errcode = '40001', message = 'the mapping was changed meanwhile', detail = message;
    end if;
    -- Code attached to a table can alter or drop its writer's functions, and a table can change while a request is
    -- written: a name is gone (42P01, 42703, 42704, 3F000), or the shape is another. Then the functions are written
    -- again, and the request is tried once more. If another request has written them, this transaction may go on to
    -- see the old ones, so the caller tries again in a new one.
    exit when code not in ('CW059', '42883', '42P01', '42703', '42704', '3F000');
    rewrite := not rewrite and exists (
      select from collecta.broken_inbound_endpoints() b
      where b.inbound_endpoint_id = write_inbound.inbound_endpoint_id
      union all
      select from collecta.inbound_endpoints e
      join collecta.modules m on m.slug = e.module and m.relation = e.relation
      where e.inbound_endpoint_id = write_inbound.inbound_endpoint_id
        and e.written_for <> collecta.inbound_shape(e.relation, e.columns, m.current_version));
    if not rewrite and not final then
      raise exception using errcode = '40001', message = 'the table was changed meanwhile', detail = message;
    end if;
    exit when attempt = 2 or not rewrite;
  end loop;
  state := 'failed';
  record_id := null;
  operation := null;
  results := null;
  select f.* into failure
  from collecta.inbound_failure(inbound_endpoint_id, code, message, column_name, reason,
    case when single then elements[1] else elements[place] -> 'values' end) f;
  column_name := failure.column_name;
  reason := case when single then failure.reason else format('element %s: %s', place - 1, failure.reason) end;
end
$$;
comment on function collecta.write_inbound(text, int, int, boolean, boolean, boolean, text, json, boolean) is
  'Maps a payload, and writes its one record, or those of a batch in their order: all or none, or with alone each that '
  'can be. done: the results of an earlier try, whose records are not written again.';

create or replace function collecta.inbound_failure(
  inbound_endpoint_id text, code text, message text, inout column_name text, constraint_name text, "values" json,
  out reason text
)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint collecta.inbound_endpoints;
begin
  select * into endpoint from collecta.inbound_endpoints e
  where e.inbound_endpoint_id = inbound_failure.inbound_endpoint_id;
  column_name := nullif(column_name, '');
  -- Most types refuse a text with a code of class 22; ltree's and intarray's types of queries do with 42601.
  if code !~ '^(40|CW|P0|23505)' collate "C" and column_name is null then
    select c into column_name from unnest(endpoint.columns) c
    where collecta.inbound_cast_problem(endpoint.inbound_endpoint_id, c, "values") is not null limit 1;
  end if;
  reason := case
    when code ~ '^40' collate "C" then 'other writers were in the way; it can be tried again'
    when code = 'CW060' then message
    when code = '23502' then 'it must not be null'
    when code = '23505' and collecta.hides_records(endpoint.relation) then
      format('a record with the same key is there already, and row security may hide it from %I', endpoint.writer)
    when column_name is not null then collecta.inbound_cast_problem(endpoint.inbound_endpoint_id, column_name, "values")
    when constraint_name <> '' then format('constraint %s refuses the record', constraint_name)
    when code = 'P0003' then format('more than one record has the same %s',
      array_to_string(endpoint.match_columns, ', '))
    when code in ('P0001', 'P0002') then 'a trigger of the table refuses the record'
  end;
  reason := coalesce(reason, format('the table cannot take the record (SQLSTATE %s)', code));
end
$$;
comment on function collecta.inbound_failure(text, text, text, text, text, json) is
  'Says what a sender is told about an error. It names columns and constraints, and quotes nothing of the payload.';
--! EndIncluded inbound/internal/write_inbound.sql
--! Included inbound/create_inbound_endpoint.sql
create or replace function collecta.create_inbound_endpoint(
  out inbound_endpoint_id text,
  out path text,
  module text,
  mapping jsonb,
  match_columns text[] default '{}',
  inout secret text default null,
  sender text default null,
  each text default null,
  match_where text default null,
  require_signature collecta.signature_rule default null,
  rate_limit_per_minute int default 60,
  max_body_bytes int default 1048576,
  events text[] default null,
  keep_ignored boolean default true,
  each_alone boolean default false,
  max_elements int default 1000,
  digest_window interval default null,
  writer name default 'collecta_writer'
)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  endpoint collecta.inbound_endpoints;
  target record;
  preset record;
  made record;
begin
  select c.* into target from collecta.check_inbound_mapping(module, mapping, match_columns, match_where) c;
  perform collecta.check_inbound_writer(target.relation, writer);
  select k.each, k.signatures <> '[]' as signs into preset
  from collecta.inbound_senders k where k.sender = coalesce(create_inbound_endpoint.sender, 'collecta');
  endpoint.module := module;
  endpoint.relation := target.relation;
  endpoint.mapping := mapping;
  endpoint.match_columns := match_columns;
  endpoint.match_where := target.match_where;
  endpoint.sender := coalesce(sender, 'collecta');
  -- Requests of a sender that signs are accepted only with a signature. If no sender is named, a secret decides that.
  endpoint.require_signature := coalesce(require_signature,
    case when sender is not null and preset.signs then 'true' else 'false' end::collecta.signature_rule);
  endpoint.each := coalesce(each, preset.each);
  endpoint.rate_limit_per_minute := rate_limit_per_minute;
  endpoint.max_body_bytes := max_body_bytes;
  endpoint.events := events;
  endpoint.keep_ignored := keep_ignored;
  endpoint.each_alone := each_alone;
  endpoint.max_elements := max_elements;
  endpoint.digest_window := digest_window;
  endpoint.writer := writer;
  if endpoint.require_signature <> 'false' and secret is null then
    secret := collecta.new_secret();
  end if;
  select s.* into made from collecta.save_inbound_endpoint(endpoint, secret) s;
  perform collecta.grant_inbound(target.relation, made.function_number);
  perform collecta.try_inbound_match(made.inbound_endpoint_id);
  inbound_endpoint_id := made.inbound_endpoint_id;
  path := format('/api/webhooks/%s/%s', module, made.token);
end
$$;
comment on function collecta.create_inbound_endpoint(
  text, jsonb, text[], text, text, text, text, collecta.signature_rule, int, int, text[], boolean, boolean, int,
    interval,
  name) is
  'Makes a URL whose payloads become records of a module: returns its id, its path (with the token, which is shown '
  'here only) and its secret. mapping: {"$.payload.sku": "product_code"} or {"product_code": {"path": '
  '"$.payload.sku", "as": "empty_as_null", "default": ..., "required": true}}, {"source": {"constant": "erp"}}, '
  '{"custom_data": {"whole": true}}. match_columns: a record that equals the payload in these is updated, else one '
  'is made; match_where limits which. sender: a row of inbound_senders, how requests are signed and numbered. each: '
  'the array whose elements are the records. A secret is always enforced; require_signature => true generates one, '
  '''standard'' asks for a signature over id and time. Needs the table''s ownership. Errors CW051 to CW057 say what '
  'to do.';

create or replace function collecta.update_inbound_endpoint(
  inbound_endpoint_id text,
  mapping jsonb default null,
  match_columns text[] default null,
  match_where text default null,
  each text default null,
  rate_limit_per_minute int default null,
  max_body_bytes int default null,
  events text[] default null,
  keep_ignored boolean default null,
  each_alone boolean default null,
  max_elements int default null,
  digest_window interval default null
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  endpoint collecta.inbound_endpoints;
  target record;
  made record;
begin
  perform collecta.check_inbound_endpoint_id(inbound_endpoint_id);
  select e.* into endpoint from collecta.inbound_endpoints e
  where e.inbound_endpoint_id = update_inbound_endpoint.inbound_endpoint_id;
  endpoint.mapping := coalesce(mapping, endpoint.mapping);
  endpoint.match_columns := coalesce(match_columns, endpoint.match_columns);
  select c.* into target
  from collecta.check_inbound_mapping(endpoint.module, endpoint.mapping, endpoint.match_columns,
    coalesce(match_where, case when endpoint.match_columns <> '{}' then endpoint.match_where end),
    endpoint.inbound_endpoint_id) c;
  perform collecta.check_inbound_writer(target.relation, endpoint.writer);
  endpoint.relation := target.relation;
  endpoint.match_where := target.match_where;
  endpoint.each := coalesce(each, endpoint.each);
  endpoint.rate_limit_per_minute := coalesce(rate_limit_per_minute, endpoint.rate_limit_per_minute);
  endpoint.max_body_bytes := coalesce(max_body_bytes, endpoint.max_body_bytes);
  endpoint.events := coalesce(events, endpoint.events);
  endpoint.keep_ignored := coalesce(keep_ignored, endpoint.keep_ignored);
  endpoint.each_alone := coalesce(each_alone, endpoint.each_alone);
  endpoint.max_elements := coalesce(max_elements, endpoint.max_elements);
  endpoint.digest_window := coalesce(digest_window, endpoint.digest_window);
  select s.* into made from collecta.save_inbound_endpoint(endpoint, null) s;
  perform collecta.grant_inbound(target.relation, made.function_number);
  perform collecta.try_inbound_match(endpoint.inbound_endpoint_id);
end
$$;
comment on function collecta.update_inbound_endpoint(
  text, jsonb, text[], text, text, int, int, text[], boolean, boolean, int, interval) is
  'Changes what is given and leaves what is null. With the id alone it takes up a change of the table: renamed '
  'columns, types, a new unique index.';
--! EndIncluded inbound/create_inbound_endpoint.sql
--! Included inbound/test_inbound_mapping.sql
create or replace function collecta.test_inbound_mapping(inbound_endpoint_id text, payload json)
returns table (column_name text, source text, type text, value text, problem text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  field record;
  at_path json;
  found json;
  input json;
begin
  perform collecta.check_inbound_endpoint_id(test_inbound_mapping.inbound_endpoint_id);
  for field in
    select f.*, e.function_number, f.column_name = any (e.match_columns) as is_matched,
      format_type(a.atttypid, a.atttypmod) as type,
      array(select m.step[1] is not null from regexp_matches(f.path collate "C",
        '\.[A-Za-z_][A-Za-z0-9_-]*|\[''[^'']+''\]|\[([0-9]+)\]', 'g') with ordinality m (step, place)
        order by m.place) as are_indexes
    from collecta.inbound_endpoints e
    cross join collecta.read_inbound_mapping(e.mapping) f
    left join pg_catalog.pg_attribute a on a.attrelid = e.relation and a.attname = f.column_name and not a.attisdropped
    where e.inbound_endpoint_id = test_inbound_mapping.inbound_endpoint_id
    order by a.attnum
  loop
    column_name := field.column_name;
    type := field.type;
    -- As in inbound_path_sql, a name finds only members of objects, and an index only elements of arrays.
    at_path := case when field.path is not null then payload end;
    for place in 1 .. coalesce(cardinality(field.steps), 0) loop
      at_path := case when field.are_indexes[place] then at_path -> field.steps[place]::int
        else at_path -> field.steps[place] end;
    end loop;
    source := case when field.constant is not null then 'constant' when at_path is not null then field.path
      when field.fallback is not null then 'default' else 'missing' end;
    found := coalesce(field.constant::json, collecta.form_inbound_value(at_path, field.forms), field.fallback::json);
    input := case when found is not null then json_build_object(field.column_name, found) else '{}' end;
    problem := coalesce(
      case when field.required and found is null then 'it is required'
        when field.is_matched and coalesce(json_typeof(found), 'null') = 'null'
          then 'records are matched by this column, so it must be there and not null' end,
      collecta.inbound_cast_problem(test_inbound_mapping.inbound_endpoint_id, field.column_name, input));
    value := null;
    if problem is null and found is not null then
      execute format('select collecta.cast_inbound_%s($1, $2)', field.function_number) into value using input,
        field.column_name;
    end if;
    return next;
  end loop;
end
$$;
comment on function collecta.test_inbound_mapping(text, json) is
  'What a payload would write, column by column, without writing: where the value comes from (a path, default, '
  'constant, or missing: left alone on update, the table''s default on insert), the value as the column''s type '
  'prints it, and the problem if it cannot be stored.';
--! EndIncluded inbound/test_inbound_mapping.sql
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
  -- Everybody who changes modules or subscriptions takes this lock first.
  perform pg_advisory_xact_lock(1668246636, 5);
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
