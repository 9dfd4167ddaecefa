--
-- PostgreSQL database dump
--

\restrict BnuSIlpC7br8xuabW5pCxXUsa1qwlAHAxim4d6Uep9B4P5Ttl3kPMrh5alonijD

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: collecta; Type: SCHEMA; Schema: -; Owner: collecta_owner
--

CREATE SCHEMA collecta;


ALTER SCHEMA collecta OWNER TO collecta_owner;

--
-- Name: SCHEMA collecta; Type: COMMENT; Schema: -; Owner: collecta_owner
--

COMMENT ON SCHEMA collecta IS 'Webhooks for the tables of this database: changes are captured, routed, delivered and kept for audit. See \df+ collecta.*';


--
-- Name: collecta_modules; Type: SCHEMA; Schema: -; Owner: collecta_owner
--

CREATE SCHEMA collecta_modules;


ALTER SCHEMA collecta_modules OWNER TO collecta_owner;

--
-- Name: SCHEMA collecta_modules; Type: COMMENT; Schema: -; Owner: collecta_owner
--

COMMENT ON SCHEMA collecta_modules IS 'Functions that collecta generates for each module. The capture triggers call them. See \sf collecta_modules.capture_1_update';


--
-- Name: collecta_rows; Type: SCHEMA; Schema: -; Owner: collecta_owner
--

CREATE SCHEMA collecta_rows;


ALTER SCHEMA collecta_rows OWNER TO collecta_owner;

--
-- Name: SCHEMA collecta_rows; Type: COMMENT; Schema: -; Owner: collecta_owner
--

COMMENT ON SCHEMA collecta_rows IS 'Functions that collecta generates for each module. The capture functions call them for rows that are large or have columns whose type is not built in.';


--
-- Name: change_reading; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.change_reading AS (
	read_by integer,
	slug text,
	scope text,
	record_id text,
	changes_key boolean,
	events text[],
	status_from text,
	status_to text,
	previous text,
	truncated boolean,
	unroutable text
);


ALTER TYPE collecta.change_reading OWNER TO collecta_owner;

--
-- Name: TYPE change_reading; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.change_reading IS 'What an outbox row means.';


--
-- Name: claim_cursor; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.claim_cursor AS (
	from_change bigint,
	settled_change bigint,
	unsettled_change bigint,
	unsettled_xid xid8,
	oldest_xid xid8,
	in_order pg_snapshot,
	route_due timestamp with time zone,
	whole_at timestamp with time zone,
	whole_due timestamp with time zone,
	whole_cost interval,
	choose_due timestamp with time zone,
	mend_due timestamp with time zone,
	found_nothing boolean,
	due_from jsonb,
	after_endpoint text
);


ALTER TYPE collecta.claim_cursor OWNER TO collecta_owner;

--
-- Name: TYPE claim_cursor; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.claim_cursor IS 'The hints of claim_deliveries for its next call. The runner passes them on as text, without reading them.';


--
-- Name: claim_result; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.claim_result AS (
	lease bigint,
	lease_ms integer,
	deliveries text,
	endpoints json,
	routed integer,
	next text,
	wait_ms integer,
	reordering boolean,
	trouble text,
	next_cursor text
);


ALTER TYPE collecta.claim_result OWNER TO collecta_owner;

--
-- Name: TYPE claim_result; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.claim_result IS 'The result of claim_deliveries.';


--
-- Name: claim_room; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.claim_room AS (
	deliveries integer,
	bytes bigint,
	per_endpoint integer,
	except_endpoints text[],
	due_from jsonb,
	leased_until timestamp with time zone,
	runner integer
);


ALTER TYPE collecta.claim_room OWNER TO collecta_owner;

--
-- Name: TYPE claim_room; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.claim_room IS 'How much a claim may lease, and until when.';


--
-- Name: delivery_result; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.delivery_result AS (
	id bigint,
	lease bigint,
	outcome text,
	url integer,
	request_headers integer,
	signed_at bigint,
	signature text,
	standard_signature text,
	status integer,
	response_headers integer,
	response_body text,
	error text,
	age_ms double precision,
	total_ms double precision,
	lookup_ms real,
	connect_ms real,
	first_byte_ms real,
	retry_after_s double precision
);


ALTER TYPE collecta.delivery_result OWNER TO collecta_owner;

--
-- Name: TYPE delivery_result; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.delivery_result IS 'What a runner knows of a finished attempt. Only id, lease and outcome are required.';


--
-- Name: due_deliveries; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.due_deliveries AS (
	leased text,
	endpoint_ids text[],
	awaited boolean,
	is_saturated boolean,
	cut boolean,
	limits jsonb,
	again_at timestamp with time zone,
	hints collecta.claim_cursor
);


ALTER TYPE collecta.due_deliveries OWNER TO collecta_owner;

--
-- Name: TYPE due_deliveries; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.due_deliveries IS 'The result of claim_due.';


--
-- Name: inbound_request_state; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.inbound_request_state AS ENUM (
    'accepted',
    'partial',
    'failed',
    'retry',
    'duplicate',
    'ignored'
);


ALTER TYPE collecta.inbound_request_state OWNER TO collecta_owner;

--
-- Name: TYPE inbound_request_state; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.inbound_request_state IS 'The states of inbound_requests, which describes them.';


--
-- Name: operation; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.operation AS ENUM (
    'I',
    'U',
    'D',
    'T',
    'M'
);


ALTER TYPE collecta.operation OWNER TO collecta_owner;

--
-- Name: TYPE operation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.operation IS 'What a statement did: I insert, U update, D delete, T truncate, M one of these while capture was muted.';


--
-- Name: recipient; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.recipient AS (
	event_number integer,
	payload_role text,
	endpoint_id text,
	after_change_id bigint,
	filter jsonpath,
	ordered boolean,
	free integer
);


ALTER TYPE collecta.recipient OWNER TO collecta_owner;

--
-- Name: TYPE recipient; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.recipient IS 'An endpoint that subscribes to an event.';


--
-- Name: routed_changes; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.routed_changes AS (
	routed integer,
	next_change bigint,
	more boolean,
	in_order pg_snapshot,
	leased text,
	leased_number integer,
	bytes bigint,
	endpoint_ids text[],
	awaited boolean,
	waiting boolean,
	reordering boolean
);


ALTER TYPE collecta.routed_changes OWNER TO collecta_owner;

--
-- Name: TYPE routed_changes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.routed_changes IS 'The result of route_changes.';


--
-- Name: routed_delivery; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.routed_delivery AS (
	delivery_id bigint,
	change_id bigint,
	"position" integer,
	endpoint_id text,
	event_id text,
	payload_role text,
	record_key bigint,
	bytes integer,
	event integer,
	free integer,
	is_leased boolean
);


ALTER TYPE collecta.routed_delivery OWNER TO collecta_owner;

--
-- Name: TYPE routed_delivery; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.routed_delivery IS 'A row of delivery_queue before route_changes writes it.';


--
-- Name: signature_rule; Type: TYPE; Schema: collecta; Owner: collecta_owner
--

CREATE TYPE collecta.signature_rule AS ENUM (
    'false',
    'true',
    'standard'
);


ALTER TYPE collecta.signature_rule OWNER TO collecta_owner;

--
-- Name: TYPE signature_rule; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TYPE collecta.signature_rule IS 'Whether a signature is asked for: false, true, or standard (one that covers an id and a time).';


--
-- Name: signature_rule(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.signature_rule(required boolean) RETURNS collecta.signature_rule
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case when required then 'true' else 'false' end::collecta.signature_rule
$$;


ALTER FUNCTION collecta.signature_rule(required boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION signature_rule(required boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.signature_rule(required boolean) IS 'So that require_signature => true and => ''standard'' are one parameter.';


--
-- Name: CAST (boolean AS collecta.signature_rule); Type: CAST; Schema: -; Owner: -
--

CREATE CAST (boolean AS collecta.signature_rule) WITH FUNCTION collecta.signature_rule(boolean) AS IMPLICIT;


--
-- Name: accept_inbound_1(text[], text[], text[], text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.accept_inbound_1(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
declare
  arrived constant timestamptz := clock_timestamp();
  wanted constant int := cardinality(bodies);
  first constant int := random() * 60;
  hash text;
  taken int;
  body text;
  element json;
  elements json[] := array[]::json[];
  written record;
begin
  -- Two requests with the same key or body never run at once, so that the second one is answered as the first.
  foreach hash in array coalesce(key_hashes || body_digests, '{}') loop
    if not pg_try_advisory_xact_lock(1668246637, hashtext('inb_01a222aee97a72b18da813c4cb443f19' || hash)) then
      return null;
    end if;
  end loop;
  foreach body in array bodies loop
    element := body::json;
    -- Most payloads are mapped by a single expression, which costs less here than in a function of its own.
    element := case when json_typeof(element) = 'object' and octet_length(body) <= 8192 then case when null is null then nullif(('{' || array_to_string(array['"id":' || (element -> 'id')::text,
      '"status":' || (element -> 'status')::text], ',') || '}'), '{}')::json end end;
    if element is null then
      element := (collecta.map_inbound_1(body::json, 1)).elements[1];
      if element is null then
        return null;
      end if;
    end if;
    elements := elements || element;
  end loop;
  if checked_digests is not null then
    if exists (
      select from collecta.inbound_requests r
      where r.inbound_endpoint_id = 'inb_01a222aee97a72b18da813c4cb443f19' and r.body_digest = any (checked_digests)
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
      where f.inbound_endpoint_id = 'inb_01a222aee97a72b18da813c4cb443f19' and f.slot between first and first + 50 * wanted
        and f.taken_at < arrived - interval '60 s'
      limit wanted
      for update skip locked))
    and exists (
      select from collecta.inbound_endpoints e
      where e.inbound_endpoint_id = 'inb_01a222aee97a72b18da813c4cb443f19' and e.state = 'active' and e.mapping_version = 1
        and e.each is null and e.functions_are_current and (e.grouped or wanted = 1))
    and not exists (
      select from collecta.inbound_requests r
      where r.inbound_endpoint_id = 'inb_01a222aee97a72b18da813c4cb443f19' and r.key_hash = any (key_hashes)
        and r.state in ('accepted', 'partial', 'ignored'));
  get diagnostics taken = row_count;
  if taken = 0 then
    return null;
  elsif taken < wanted
    and taken + collecta.take_inbound_budget('inb_01a222aee97a72b18da813c4cb443f19', 60, wanted - taken, arrived) < wanted
  then
    raise exception using errcode = 'CW061', message = 'the rate budget has no room for all of these requests';
  end if;
  written := collecta.write_inbound_1(elements, 1);
  insert into collecta.inbound_requests (inbound_endpoint_id, received_at, state, operation, record_id,
    mapping_version, key_hash, body_digest, body)
  select 'inb_01a222aee97a72b18da813c4cb443f19', arrived, 'accepted', written.operations[i], written.record_ids[i], 1,
    key_hashes[i], body_digests[i], bodies[i]
  from generate_series(1, wanted) i;
  return written.record_ids;
end
$$;


ALTER FUNCTION collecta.accept_inbound_1(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]) OWNER TO collecta_owner;

--
-- Name: acting_role(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.acting_role() RETURNS name
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(nullif(current_setting('role'), 'none'), session_user::text)::name
$$;


ALTER FUNCTION collecta.acting_role() OWNER TO collecta_owner;

--
-- Name: FUNCTION acting_role(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.acting_role() IS 'Returns the role that the session has set with SET ROLE, or else its login. It does so inside a security definer function too.';


--
-- Name: add_counts(jsonb, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.add_counts(counts jsonb, more jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(jsonb_object_agg(c.key, c.n), '{}')
  from (
    select e.key, sum(e.value::bigint) as n
    from (select * from jsonb_each_text(counts) union all select * from jsonb_each_text(more)) e group by e.key) c
$$;


ALTER FUNCTION collecta.add_counts(counts jsonb, more jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION add_counts(counts jsonb, more jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.add_counts(counts jsonb, more jsonb) IS 'Two histograms of collecta.delivery_rollup as one.';


--
-- Name: add_key_call(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.add_key_call(relation regclass) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.add_key_call(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION add_key_call(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.add_key_call(relation regclass) IS 'Returns the statement that gives a table a primary key, for a hint.';


--
-- Name: alert_events(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.alert_events() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array['endpoint.failing', 'endpoint.paused', 'endpoint.recovered', 'delivery.exhausted', 'change.set_aside',
    'inbound.failing', 'queue.stale']
$$;


ALTER FUNCTION collecta.alert_events() OWNER TO collecta_owner;

--
-- Name: FUNCTION alert_events(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.alert_events() IS 'Returns the events about collecta itself. An endpoint can subscribe to them as to the events of records.';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: module_versions; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.module_versions (
    version integer NOT NULL,
    module_id integer NOT NULL,
    slug text NOT NULL COLLATE pg_catalog."C",
    relation regclass NOT NULL,
    key_columns text[] NOT NULL COLLATE pg_catalog."C",
    key_is_named boolean NOT NULL,
    status_column text COLLATE pg_catalog."C",
    custom_data_column text COLLATE pg_catalog."C",
    scope_column text COLLATE pg_catalog."C",
    exclude_columns text[] NOT NULL COLLATE pg_catalog."C",
    ignore_columns text[] NOT NULL COLLATE pg_catalog."C",
    on_truncate text NOT NULL COLLATE pg_catalog."C",
    column_numbers jsonb NOT NULL,
    database text NOT NULL COLLATE pg_catalog."C",
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT module_versions_on_truncate_is_known CHECK ((on_truncate = ANY (ARRAY['records'::text, 'ignore'::text, 'refuse'::text])))
);


ALTER TABLE collecta.module_versions OWNER TO collecta_owner;

--
-- Name: TABLE module_versions; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.module_versions IS 'How a module was attached, with a new row each time. After detach_module a version is kept until the changes captured under it are routed.';


--
-- Name: COLUMN module_versions.key_columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.key_columns IS 'The columns that form the record_id, in the order of the key.';


--
-- Name: COLUMN module_versions.key_is_named; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.key_is_named IS 'Whether attach_module was given key_columns. Otherwise the key is the primary key.';


--
-- Name: COLUMN module_versions.exclude_columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.exclude_columns IS 'Columns that are never captured, not even into the outbox, so that personal data stays in its table.';


--
-- Name: COLUMN module_versions.ignore_columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.ignore_columns IS 'Columns that are in the payload, but whose change alone causes no event, such as updated_at.';


--
-- Name: COLUMN module_versions.on_truncate; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.on_truncate IS 'What a TRUNCATE does. records: it sends one record_deleted for each record, or above settings.max_truncate_records one with a count. ignore: it sends nothing. refuse: it raises an error.';


--
-- Name: COLUMN module_versions.column_numbers; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.column_numbers IS 'The attribute numbers of the columns that are named in this row, by name. With them a renamed column stays excluded or ignored.';


--
-- Name: COLUMN module_versions.database; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_versions.database IS 'The database (system identifier and oid) in which the attribute numbers are valid. A restored dump has other numbers.';


--
-- Name: attach_again(collecta.module_versions); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_again(module collecta.module_versions) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with present (name, number) as (
    select a.attname::text, a.attnum from pg_catalog.pg_attribute a
    where a.attrelid = module.relation and a.attnum > 0 and not a.attisdropped
  ), now (configured, name) as (
    select c, coalesce(
      (select p.name from present p where p.name = c),
      (select p.name from present p where p.number = any (collecta.column_numbers(module, array[c]))))
    from unnest(array[module.status_column, module.custom_data_column, module.scope_column] || module.exclude_columns
      || module.ignore_columns || module.key_columns) c
  )
  select collecta.attach_call(module.relation, module.slug,
    -- An empty string takes the column away; null would leave it as it was.
    case when module.status_column is not null then
      coalesce((select max(n.name) from now n where n.configured = module.status_column), '') end,
    case when module.custom_data_column is not null then
      coalesce((select max(n.name) from now n where n.configured = module.custom_data_column), '') end,
    case when module.scope_column is not null then
      coalesce((select max(n.name) from now n where n.configured = module.scope_column), '') end,
    array(select distinct n.name from now n where n.configured = any (module.exclude_columns) and n.name is not null),
    array(select distinct n.name from now n where n.configured = any (module.ignore_columns) and n.name is not null),
    case when module.key_is_named then
      (select array_agg(n.name order by array_position(module.key_columns, n.configured)) from now n
       where n.configured = any (module.key_columns)) end,
    module.on_truncate)
$$;


ALTER FUNCTION collecta.attach_again(module collecta.module_versions) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_again(module collecta.module_versions); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_again(module collecta.module_versions) IS 'Returns the call of attach_module that attaches a module as it is, with the present names of its columns.';


--
-- Name: attach_call(regclass, text, text, text, text, text[], text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select format('select collecta.attach_module(%L, %L%s%s%s%s%s%s%s);', relation, slug,
    ', status_column => ' || quote_literal(status_column),
    ', custom_data_column => ' || quote_literal(custom_data_column),
    ', scope_column => ' || quote_literal(scope_column),
    ', exclude_columns => ' || quote_literal(nullif(exclude_columns, '{}')::text),
    ', ignore_columns => ' || quote_literal(nullif(ignore_columns, '{}')::text),
    ', key_columns => ' || quote_literal(key_columns::text),
    ', on_truncate => ' || quote_literal(nullif(on_truncate, 'records')))
$$;


ALTER FUNCTION collecta.attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) IS 'Returns the text of a call of attach_module.';


--
-- Name: attach_module(regclass, text, text, text, text, text[], text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_module(relation regclass, slug text, status_column text DEFAULT NULL::text, custom_data_column text DEFAULT NULL::text, scope_column text DEFAULT NULL::text, exclude_columns text[] DEFAULT NULL::text[], ignore_columns text[] DEFAULT NULL::text[], key_columns text[] DEFAULT NULL::text[], on_truncate text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
begin
  perform collecta.refuse_distributed(relation, slug);
  return collecta.attach_relation(relation, slug, status_column, custom_data_column, scope_column, exclude_columns,
    ignore_columns, key_columns, on_truncate);
end
$$;


ALTER FUNCTION collecta.attach_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) IS 'Makes a table a module: its changes become events under this slug. The caller needs TRIGGER on the table. For a table that is attached already, it changes the options that are given and keeps those that are null; to remove a column pass '''', to remove a list ''{}''. status_column and custom_data_column cause the events status_change and custom_data_updated. scope_column is compared with the scope of endpoints. exclude_columns are never captured. If only ignore_columns change, there is no event. key_columns name a unique, not null key to use instead of the primary key. on_truncate is records (the default), ignore or refuse. Returns the number of the module. The hints of the errors CW002 to CW006 say what to do.';


--
-- Name: attach_moved_shards(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_moved_shards() RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  module record;
begin
  if to_regclass('pg_catalog.pg_dist_partition') is null then
    return;
  end if;
  for module in
    select m.module_id, m.slug, m.relation, v.on_truncate
    from collecta.modules m join collecta.module_versions v on v.version = m.current_version
    where collecta.is_distributed(m.relation)
    order by m.module_id
  loop
    begin
      if collecta.attach_triggers(module.relation, module.module_id, module.on_truncate) > 0 then
        return next module.slug;
      end if;
    exception when others then
      -- collecta.health says which triggers are missing, and the next call tries again.
      raise warning 'collecta: the shards of % could not be attached: %', module.slug, sqlerrm;
    end;
  end loop;
end
$$;


ALTER FUNCTION collecta.attach_moved_shards() OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_moved_shards(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_moved_shards() IS 'Creates the missing triggers on shards that have been moved to this node. Returns the modules concerned. maintain() calls it as its owner, who needs TRIGGER on the shards: if it is granted on the distributed table, Citus grants it on each shard.';


--
-- Name: attach_partitions(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_partitions(slug text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  module record;
begin
  select m.module_id, m.relation, v.on_truncate into module
  from collecta.modules m join collecta.module_versions v on v.version = m.current_version
  where m.slug = attach_partitions.slug;
  if not found then
    perform collecta.refuse_slug(slug);
  end if;
  return collecta.attach_triggers(module.relation, module.module_id, module.on_truncate);
end
$$;


ALTER FUNCTION collecta.attach_partitions(slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_partitions(slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_partitions(slug text) IS 'Creates the missing triggers on new partitions of a module''s table. The caller needs TRIGGER on them. Returns how many triggers it created.';


--
-- Name: attach_relation(regclass, text, text, text, text, text[], text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_relation(relation regclass, slug text, status_column text DEFAULT NULL::text, custom_data_column text DEFAULT NULL::text, scope_column text DEFAULT NULL::text, exclude_columns text[] DEFAULT NULL::text[], ignore_columns text[] DEFAULT NULL::text[], key_columns text[] DEFAULT NULL::text[], on_truncate text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  -- An argument that is null stays as it was, by the present names of its columns.
  before collecta.module_versions;
  present constant text[] := array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
  keys text[];
  gone text[] := array[]::text[];
  shown text[];
  saved int;
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
  return saved;
end
$$;


ALTER FUNCTION collecta.attach_relation(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_relation(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_relation(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) IS 'Does what attach_module and attach_shards do after they have checked the kind of the table.';


--
-- Name: attach_shards(regclass, text, text, text, text, text[], text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_shards(relation regclass, slug text, status_column text DEFAULT NULL::text, custom_data_column text DEFAULT NULL::text, scope_column text DEFAULT NULL::text, exclude_columns text[] DEFAULT NULL::text[], ignore_columns text[] DEFAULT NULL::text[], key_columns text[] DEFAULT NULL::text[], on_truncate text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  attached int;
begin
  if not collecta.is_distributed(relation) then
    raise exception using errcode = 'CW002', message = format('%s has no shards', relation),
      detail = 'It is not a distributed table of Citus.',
      hint = format('select collecta.attach_module(%L, %L);', relation, slug);
  end if;
  if not exists (select from collecta.module_members(relation)) then
    raise exception using errcode = 'CW002', message = format('no shard of %s is on this node', relation),
      detail = format('Its shards are on: %s.', collecta.shard_nodes(relation)),
      hint = collecta.attach_shards_call(relation, slug) || ' -- on each of these nodes';
  end if;
  perform collecta.attach_relation(relation, slug, status_column, custom_data_column, scope_column, exclude_columns,
    ignore_columns, key_columns, on_truncate);
  select count(*) into attached from collecta.module_members(relation);
  return attached;
end
$$;


ALTER FUNCTION collecta.attach_shards(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_shards(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_shards(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) IS 'Makes the shards of a distributed table (Citus) that are on this node one module. The arguments are those of attach_module. The caller needs TRIGGER on the shards. Call it on each node that has shards. Returns the number of shards.';


--
-- Name: attach_shards_call(regclass, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_shards_call(relation regclass, slug text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select format('select collecta.attach_shards(%L, %L);', relation, slug)
$$;


ALTER FUNCTION collecta.attach_shards_call(relation regclass, slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_shards_call(relation regclass, slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_shards_call(relation regclass, slug text) IS 'Returns the text of a call of attach_shards.';


--
-- Name: attach_triggers(regclass, integer, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attach_triggers(relation regclass, module_id integer, on_truncate text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  member record;
  attached int := 0;
  before constant jsonb := collecta.enter_citus();
begin
  for member in
    select c.oid::regclass as relation, task, tree.level,
      to_regproc(format('collecta_modules.capture_%s_%s', attach_triggers.module_id, task)) as function_id
    from collecta.module_members(attach_triggers.relation) tree
    join pg_catalog.pg_class c on c.oid = tree.relid and c.relkind in ('r', 'p')
    cross join unnest(array['insert', 'update', 'delete', 'truncate']) with ordinality t (task, place)
    where not (task = 'truncate' and c.relkind = 'p')
    order by tree.level, c.oid, place
  loop
    if member.task = 'truncate' and on_truncate = 'records' then
      perform collecta.let_capture_read(member.relation);
    end if;
    -- An existing trigger is kept, because creating it again would block the table's writers.
    continue when exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = member.relation and t.tgname = 'collecta_capture_' || member.task
        and t.tgfoid = member.function_id);
    execute format(
      'create or replace trigger %I %s on %s %s for each statement execute function %s()',
      'collecta_capture_' || member.task,
      case member.task
        when 'insert' then 'after insert'
        when 'update' then 'after update'
        when 'delete' then 'after delete'
        when 'truncate' then 'before truncate' end,
      member.relation,
      case member.task
        when 'insert' then 'referencing new table as new_rows'
        when 'update' then 'referencing old table as old_rows new table as new_rows'
        when 'delete' then 'referencing old table as old_rows'
        else '' end,
      member.function_id);
    attached := attached + 1;
  end loop;
  perform collecta.leave_citus(before);
  return attached;
end
$$;


ALTER FUNCTION collecta.attach_triggers(relation regclass, module_id integer, on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attach_triggers(relation regclass, module_id integer, on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attach_triggers(relation regclass, module_id integer, on_truncate text) IS 'Creates the missing triggers on a table and its partitions. Returns how many it created.';


--
-- Name: attempt_headers(json, text, bigint, text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text) RETURNS json
    LANGUAGE sql STABLE
    AS $$
  select case when signature is null then headers::text
    else '{"webhook-id":"' || event_id || '","webhook-timestamp":"' || signed_at
      || '","x-webhook-signature":"' || signature || '","webhook-signature":"' || standard_signature
      || '"' || coalesce(',' || substr(nullif(headers::text, '{}'), 2), '}') end::json
$$;


ALTER FUNCTION collecta.attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text) OWNER TO collecta_owner;

--
-- Name: FUNCTION attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text) IS 'Returns the request headers of an attempt: those of the endpoint and those of the signature.';


--
-- Name: attempt_id_at(timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.attempt_id_at(moment timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select 'dlv_' || lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0')
$$;


ALTER FUNCTION collecta.attempt_id_at(moment timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION attempt_id_at(moment timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.attempt_id_at(moment timestamp with time zone) IS 'Returns the lowest id of an attempt recorded at a moment. A condition webhook_deliveries.id >= attempt_id_at(...) reads by the primary key.';


--
-- Name: body_contains(text, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.body_contains(body text, fragment jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return body::jsonb @> fragment;
exception when others then
  return false; -- A body may contain what jsonb refuses, such as \u0000 or a number of 200,000 digits.
end
$$;


ALTER FUNCTION collecta.body_contains(body text, fragment jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION body_contains(body text, fragment jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.body_contains(body text, fragment jsonb) IS 'Whether a payload contains a piece of JSON, according to the operator @> of jsonb. False for a payload that cannot be converted to jsonb.';


--
-- Name: broken_inbound_endpoints(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.broken_inbound_endpoints() RETURNS TABLE(inbound_endpoint_id text, problem text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select e.inbound_endpoint_id,
    case when f.found < 4 then 'one of its functions was dropped' else 'one of its functions was altered' end
  from collecta.inbound_endpoints e
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  join pg_catalog.pg_class r on r.oid = e.relation
  cross join lateral (
    -- The writer does not own map_inbound_<n> and accept_inbound_<n>, so a table's code cannot alter them. check_grants
    -- looks at their privileges.
    select count(*) as found, md5(string_agg(
      case when t.task in ('write', 'cast') then collecta.function_hash(p.oid) end, '' order by t.place)) as hash
    from unnest('{write,cast,map,accept}'::text[]) with ordinality t (task, place)
    join pg_catalog.pg_proc p on p.pronamespace = 'collecta'::regnamespace
      and p.proname = format('%s_inbound_%s', t.task, e.function_number)) f
  where e.state <> 'deleted' and (f.found < 4 or f.hash is distinct from e.written_hash)
$$;


ALTER FUNCTION collecta.broken_inbound_endpoints() OWNER TO collecta_owner;

--
-- Name: FUNCTION broken_inbound_endpoints(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.broken_inbound_endpoints() IS 'Inbound endpoints whose written functions are no longer as they were written. Code attached to a table can do that to those of its own writer.';


--
-- Name: called_functions(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.called_functions(source text) RETURNS text[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  return (with recursive called (id, source) as (
    select null::oid, called_functions.source collate "C"
    union
    -- Functions in SQL are looked into as well, because they run with the same rights. collecta_rows.row_<n> catches
    -- the errors of what it calls.
    select p.oid, case when l.lanname = 'sql' and not p.prosecdef then p.prosrc end
    from called c
    cross join regexp_matches(regexp_replace(c.source, '--[^\n]*', '', 'g'),
      '(collecta|collecta_rows)\.([a-z0-9_]+)\(', 'g') named (parts)
    join pg_catalog.pg_namespace n on n.nspname = named.parts[1]
    join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = named.parts[2]
    join pg_catalog.pg_language l on l.oid = p.prolang
  )
  select coalesce(array_agg(c.id::regproc::text order by c.id::regproc::text collate "C"), '{}')
  from called c where c.id is not null);
end
$$;


ALTER FUNCTION collecta.called_functions(source text) OWNER TO collecta_owner;

--
-- Name: FUNCTION called_functions(source text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.called_functions(source text) IS 'Returns the functions of collecta that a capture function calls by name, directly or in functions in SQL.';


--
-- Name: can_group_inbound(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.can_group_inbound(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select c.relkind = 'r' and not c.relhasrules and not c.relrowsecurity
    and not exists (
      select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
      where t.tgrelid = relation and not t.tgisinternal and p.pronamespace <> 'collecta_modules'::regnamespace)
    and not exists (
      select from pg_catalog.pg_constraint k where k.condeferrable and relation in (k.conrelid, k.confrelid))
  from pg_catalog.pg_class c where c.oid = relation
$$;


ALTER FUNCTION collecta.can_group_inbound(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION can_group_inbound(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.can_group_inbound(relation regclass) IS 'Whether requests that share a transaction write this table as each would alone: nothing of the user''s that runs with one record could leave something behind for the next.';


--
-- Name: capture_delete_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_delete_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Captures DELETE on module @slug@. Written by collecta.write_capture_functions(@module_id@); do not edit.
#variable_conflict use_variable
begin
  @usual_or_otherwise@
  -- coalesce(x.*) is the row even if a column is named like the alias. OFFSET makes it be computed once.
  insert into collecta.outbox (version, operation, old)
  select @version@, 'D', @deleted_row@
  from (
    select coalesce("collecta old".*) as r@old_document@
    from old_rows "collecta old"@old_columns@ offset 0) o;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if @may_notify@ then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$body$ $_$;


ALTER FUNCTION collecta.capture_delete_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_delete_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_delete_template() IS 'The body of collecta_modules.capture_<n>_delete.';


--
-- Name: capture_hashes(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_hashes() RETURNS TABLE(module_id integer, hash jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.capture_hashes() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_hashes(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_hashes() IS 'Returns the present hashes of the modules'' capture functions, to compare them with those that were stored.';


--
-- Name: capture_inputs(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_inputs(module_id integer) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select md5(concat_ws(' ', v, collecta.table_layout(v.relation), collecta.has_only_enums(v.relation),
    c.relkind, collecta.unresolved_columns(v),
    (select string_agg(collecta.type_kind(a.atttypid), ' ' order by a.attnum) from pg_catalog.pg_attribute a
     where a.attrelid = v.relation and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384),
    (select s.notify from collecta.settings s), current_setting('max_prepared_transactions')))
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_catalog.pg_class c on c.oid = v.relation
  where m.module_id = capture_inputs.module_id
$$;


ALTER FUNCTION collecta.capture_inputs(module_id integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_inputs(module_id integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_inputs(module_id integer) IS 'Returns everything that a module''s capture functions depend on besides its subscriptions. If it has changed, they must be generated again.';


--
-- Name: capture_insert_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_insert_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Captures INSERT on module @slug@. Written by collecta.write_capture_functions(@module_id@); do not edit.
#variable_conflict use_variable
begin
  @usual_or_otherwise@
  -- coalesce(x.*) is the row even if a column is named like the alias. OFFSET makes it be computed once.
  insert into collecta.outbox (version, operation, new)
  select @version@, 'I', @inserted_row@
  from (
    select coalesce("collecta new".*) as r@new_document@
    from new_rows "collecta new"@new_columns@ offset 0) n;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if @may_notify@ then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$body$ $_$;


ALTER FUNCTION collecta.capture_insert_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_insert_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_insert_template() IS 'The body of collecta_modules.capture_<n>_insert.';


--
-- Name: capture_otherwise_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_otherwise_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$-- A statement made for the table as it is now. If that fails, one for key and status only.
    -- New columns may depend on other settings than those that this function pins, so all of them are pinned.
    declare
      settings jsonb;
    begin
      settings := collecta.pin_output_settings();
      execute collecta.capture_statement(@version@, @module_id@, tg_relid, '@operation@', false)
      using clock_timestamp();
      perform collecta.pin_output_settings(settings);
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
      begin
        settings := collecta.pin_output_settings();
        execute collecta.capture_statement(@version@, @module_id@, tg_relid, '@operation@', true)
        using clock_timestamp();
        perform collecta.pin_output_settings(settings);
      exception when syntax_error_or_access_rule_violation or data_exception then
        raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
      end;
    end;
    if not pg_try_advisory_xact_lock_shared(1668246636, 1) and @may_notify@ then
      perform pg_notify('collecta_wake', '');
    end if;
    return null;$body$ $_$;


ALTER FUNCTION collecta.capture_otherwise_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_otherwise_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_otherwise_template() IS 'The part that the capture functions of all operations have in common.';


--
-- Name: capture_parts(collecta.module_versions, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_parts(module collecta.module_versions, subscribed text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;


ALTER FUNCTION collecta.capture_parts(module collecta.module_versions, subscribed text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_parts(module collecta.module_versions, subscribed text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_parts(module collecta.module_versions, subscribed text[]) IS 'Returns the texts that are filled into the templates of a module''s capture functions, by name.';


--
-- Name: capture_row_as_text_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_row_as_text_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$begin
      document := @document@;
      if size_limit is null or octet_length(document::text) <= 2 * size_limit then
        return document;
      end if;
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
    end;$body$ $_$;


ALTER FUNCTION collecta.capture_row_as_text_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_row_as_text_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_row_as_text_template() IS 'The second attempt of collecta_rows.row_<n>, for types with a cast to json: it captures their values as text.';


--
-- Name: capture_row_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_row_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Captures one row of module @slug@ for which row_to_json alone is not safe: it has more than 4 kB as stored
-- (compressed, so it may be up to 255 times as large), or types that are not built in. Written by
-- collecta.write_capture_functions(@module_id@) for the columns @layout@; do not edit. An error, such as a column name
-- that does not fit any more after a rename, is caught, because nothing here may fail the writer's statement.
declare
  size_limit bigint;
  size bigint := pg_column_size(captured);
  document json;
  custom_data_changed boolean := false;
begin
  begin
    if size > 4096 then
      size_limit := (select s.max_record_bytes from collecta.settings s);
      begin
        size := @size@;
      exception when others then
        null;
      end;
    end if;
    if size <= size_limit or size_limit is null then
      begin
        document := @document@;
        if size_limit is null or octet_length(document::text) <= 2 * size_limit then
          return document;
        end if;
      exception when others or query_canceled then
        -- The document is too large, a value cannot be written as JSON, or the writer's time is over.
        if sqlstate = '57014' and not collecta.writer_timed_out() then
          raise;
        end if;
      end;
      @document_as_text@
    end if;
    begin
      -- Only an update has another row.
      if num_nulls(other) = 0 then
        custom_data_changed := @custom_data_changed@;
      end if;
    exception when others then
      null;
    end;
    select row_to_json(coalesce("collecta thin".*)) into document
    from (select @thin_columns@true as "$truncated", custom_data_changed as "$custom_data_changed") "collecta thin";
    return document;
  exception when others then
    begin
      return coalesce(@thin_by_name@, '{"$truncated":true}'::json);
    exception when others then
      return '{"$truncated":true}'::json;
    end;
  end;
end
$body$ $_$;


ALTER FUNCTION collecta.capture_row_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_row_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_row_template() IS 'The body of collecta_rows.row_<n>.';


--
-- Name: capture_statement(integer, integer, oid, text, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_variable
declare
  nothing constant text := 'select';
  module collecta.module_versions;
  root oid;
  omitted text[];
  old_row text;
  new_row text;
begin
  -- A transaction whose snapshot is older than the version sees an earlier version; then only key and status are
  -- captured.
  select v.* into module from collecta.module_versions v
  where v.version = captured_version or v.module_id = module_id
  order by v.version = captured_version desc, v.version desc limit 1;
  root := (select m.relation from collecta.modules m where m.module_id = module_id);
  -- The trigger is on a table of another module: it was restored from another database, or its partition was detached.
  if module.version is null or root is null
    or relation not in (select m.relid from collecta.module_members(root) m)
  then
    return nothing;
  end if;
  omitted := collecta.omitted_columns(
    root, module.exclude_columns, collecta.column_numbers(module, module.exclude_columns));
  if operation = 'TRUNCATE' and (thin or collecta.truncate_problem(relation) is not null) then
    return format('insert into collecta.outbox (version, operation, new, captured_at)
      values (%s, ''T'', ''{"count":null}'', $1)', captured_version);
  end if;
  thin := thin or module.version <> captured_version or collecta.sees_old_catalog(root)
    or module.exclude_columns <> '{}' and (module.database <> collecta.database_identity()
      or collecta.unresolved_columns(module) <> '{}');
  old_row := collecta.row_statement(
    module, root, omitted, '"collecta old"', '"collecta new"', thin, operation = 'UPDATE');
  new_row := collecta.row_statement(
    module, root, omitted, '"collecta new"', '"collecta old"', thin, operation = 'UPDATE');
  return format(case operation
    when 'INSERT' then '
      insert into collecta.outbox (version, operation, new, captured_at)
      select %1$s, ''I'', %4$s, $1 from new_rows "collecta new"'
    when 'DELETE' then '
      insert into collecta.outbox (version, operation, old, captured_at)
      select %1$s, ''D'', %3$s, $1 from old_rows "collecta old"'
    when 'UPDATE' then '
      with "collecta counts" as materialized (
        select (select count(*) from old_rows) = (select count(*) from new_rows) as same)
      insert into collecta.outbox (version, operation, old, new, captured_at)
      select %1$s,
        case when "collecta old"."collecta place" is null then collecta.operation ''I''
          when "collecta new"."collecta place" is null then ''D'' else ''U'' end,
        case when "collecta old"."collecta place" is not null then %3$s end,
        case when "collecta new"."collecta place" is not null then %4$s end, $1
      from (
        select "collecta old".*, coalesce("collecta old".*) as "collecta row", row_number() over () as "collecta place",
          case when "collecta counts".same then row_number() over () end::text || '''' as "collecta position",
          case when "collecta counts".same then ''{}'' else %5$s end as "collecta key"
        from old_rows "collecta old", "collecta counts") "collecta old"
      full join (
        select "collecta new".*, coalesce("collecta new".*) as "collecta row", row_number() over () as "collecta place",
          case when "collecta counts".same then row_number() over () end::text || '''' as "collecta position",
          case when "collecta counts".same then ''{}'' else %6$s end as "collecta key"
        from new_rows "collecta new", "collecta counts") "collecta new"
      on coalesce("collecta old"."collecta position", '''') = coalesce("collecta new"."collecta position", '''')
        and "collecta old"."collecta key" = "collecta new"."collecta key"
      where ("collecta old"."collecta row" *<> "collecta new"."collecta row") is not false
      order by coalesce("collecta old"."collecta place", "collecta new"."collecta place")'
    else '
      with truncated as materialized (select count(*) as records from only %7$s)
      insert into collecta.outbox (version, operation, old, new, captured_at)
      select %1$s, collecta.operation ''D'', %3$s, null, $1 from only %7$s "collecta old"
      where (select records from truncated) <= %8$s
      union all
      select %1$s, ''T'', null, json_build_object(''count'', records), $1
      from truncated where records > %8$s' end,
    captured_version, null, old_row, new_row,
    coalesce(collecta.key_expression(module, root, '"collecta old"'), quote_literal('')),
    coalesce(collecta.key_expression(module, root, '"collecta new"'), quote_literal('')),
    relation::regclass, (select s.max_truncate_records from collecta.settings s));
end
$_$;


ALTER FUNCTION collecta.capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean) IS 'Returns the statement that captures an operation on a table as the table is now. With thin it captures only key, scope and status.';


--
-- Name: capture_truncate_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_truncate_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Captures TRUNCATE on module @slug@. Written by collecta.write_capture_functions(@module_id@); do not edit.
begin
  if current_setting('collecta.muted', true) = 'on' then
    insert into collecta.outbox (version, operation, new)
    values (@version@, 'M', json_build_object('operation', 'truncate', 'records', 1));
    return null;
  end if;
  @capture_otherwise@
-- The writer must not fail if rights of ours were revoked.
exception when syntax_error_or_access_rule_violation then
  raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
  return null;
end
$body$ $_$;


ALTER FUNCTION collecta.capture_truncate_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_truncate_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_truncate_template() IS 'The body of collecta_modules.capture_<n>_truncate with on_truncate => records.';


--
-- Name: capture_update_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_update_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Captures UPDATE on module @slug@. Written by collecta.write_capture_functions(@module_id@); do not edit.
#variable_conflict use_variable
declare
  captured_at timestamptz;
begin
  @usual_or_otherwise@
  -- Most updates change one small row. This statement pairs without a join condition and is always planned for two
  -- rows, so a plan that was cached for many rows does not slow it down: it costs a third less than the general one
  -- below. coalesce(x.*) is the row even if a column is named like the alias.
  insert into collecta.outbox (version, operation, old, new)
  select @version@, 'U', @old_row@, @new_row@
  from (
    select coalesce("collecta old".*) as r@old_document@
    from old_rows "collecta old"@old_columns@ limit 2) o, (
    select coalesce("collecta new".*) as r@new_document@
    from new_rows "collecta new"@new_columns@ limit 2) n
  where not exists (select from old_rows offset 1)
    and pg_column_size(o.r) <= 4096 and pg_column_size(n.r) <= 4096
    and (o.r *<> n.r) is not false@key_changed@;
  if not found then
    -- One small row that did not change is the most frequent reason to be here. The statement below costs twice this.
    if exists (
      select from (select coalesce("collecta old".*) as r from old_rows "collecta old" limit 2) o,
        (select coalesce("collecta new".*) as r from new_rows "collecta new" limit 2) n
      where not exists (select from old_rows offset 1)
        and pg_column_size(o.r) <= 4096 and pg_column_size(n.r) <= 4096)
    then
      return null;
    end if;@unless_even@
    -- Rows are paired by position and not by key, because a foreign-key action puts one record into both tables twice.
    -- A strict WHERE condition would turn FULL JOIN into an inner join, whose plan may be cached as a nested loop and
    -- is then slow for many rows. All rows have one captured_at, which routing needs where keys change.
    captured_at := clock_timestamp();
    insert into collecta.outbox (version, operation, old, new, captured_at)
    select @version@, 'U', @old_row_or_large@, @new_row_or_large@, captured_at
    from (
      select coalesce("collecta old".*) as r, row_number() over () as position@old_document@
      from old_rows "collecta old"@old_columns@) o
    full join (
      select coalesce("collecta new".*) as r, row_number() over () as position@new_document@
      from new_rows "collecta new"@new_columns@) n
      on n.position = o.position
    where (o.r *<> n.r) is not false@key_changed@
    order by o.position;
  end if;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if @may_notify@ then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$body$ $_$;


ALTER FUNCTION collecta.capture_update_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_update_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_update_template() IS 'The body of collecta_modules.capture_<n>_update.';


--
-- Name: capture_usual_or_otherwise_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capture_usual_or_otherwise_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$-- This block writes nothing for most statements. It catches what fails if rights of
  -- ours were revoked, even the right to look up a name, because the writer must not fail. The tables are computed when
  -- the condition is planned.
  <<usual>>
  begin
    if current_setting('collecta.muted', true) is distinct from 'on' and tg_relid = any (@relations@) then
      -- A statement_timeout that ends the writer's statement in here is caught below, if there are many rows.
      exit usual when current_setting('statement_timeout') = '0';
      exit usual when clock_timestamp() - statement_timestamp() <= interval '100 ms';
      exit usual when not exists (select from @rows@ offset 1000);
    elsif not exists (select from @rows@) then
      return null;
    elsif current_setting('collecta.muted', true) = 'on' then
      insert into collecta.outbox (version, operation, new)
      select @version@, 'M', json_build_object('operation', '@operation@', 'records', count(*)) from @rows@;
      return null;
    end if;
    @capture_otherwise@
  exception when syntax_error_or_access_rule_violation then
    raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
    return null;
  end;$body$ $_$;


ALTER FUNCTION collecta.capture_usual_or_otherwise_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION capture_usual_or_otherwise_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capture_usual_or_otherwise_template() IS 'The part with which the capture functions of INSERT, UPDATE and DELETE begin. It decides whether the statement after it captures the rows, or does so itself, or captures nothing.';


--
-- Name: captured_context(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.captured_context(context text, traceparent text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
  select case
    -- context_json leaves out a context of this size.
    when octet_length(context) > 65536
      or coalesce(traceparent, '') !~ '^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$'
      then nullif(context, '')
    when coalesce(context, '') = '' or context ~ '^[ \t\n\r]*\{[ \t\n\r]*\}[ \t\n\r]*$'
      then format('{"traceparent":"%s"}', traceparent)
    when context ~ '^[ \t\n\r]*\{.*\}[ \t\n\r]*$'
      then format('{"traceparent":"%s",%s', traceparent, substr(context, strpos(context, '{') + 1))
    else format('{"traceparent":"%s","context":%s}', traceparent, to_json(context)) end
$_$;


ALTER FUNCTION collecta.captured_context(context text, traceparent text) OWNER TO collecta_owner;

--
-- Name: FUNCTION captured_context(context text, traceparent text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.captured_context(context text, traceparent text) IS 'Returns the context of a captured change with the transaction''s traceparent in it; null if there is neither. A value that is not a W3C traceparent is left out.';


--
-- Name: capturing_role(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.capturing_role() RETURNS name
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select collecta.written_owner('collecta_capture')
$$;


ALTER FUNCTION collecta.capturing_role() OWNER TO collecta_owner;

--
-- Name: FUNCTION capturing_role(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.capturing_role() IS 'Returns the role that owns the capture functions; see own_functions.';


--
-- Name: cast_inbound_1(json, text); Type: FUNCTION; Schema: collecta; Owner: collecta_writer
--

CREATE FUNCTION collecta.cast_inbound_1(input json, column_name text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'auto'
    SET enable_seqscan TO 'on'
    AS $$
#variable_conflict use_column
declare
  v record;
  kinds constant pg_catalog.text[] := array[pg_catalog.json_typeof(input operator(pg_catalog.->) 'id'), pg_catalog.json_typeof(input operator(pg_catalog.->) 'status')];
  wrong pg_catalog.text;
begin
  if current_user operator(pg_catalog.<>) 'collecta_writer'::pg_catalog.name then
    raise exception using errcode = 'CW059', message = 'this function was altered';
  end if;
  if column_name is null then
    -- This only plans the match, to find out whether records can be matched this way.
    select * into v from pg_catalog.json_to_record(input) v (id integer, status text);
    perform from public.work_orders t where t.id operator(pg_catalog.=) v.id and (true
    ) limit 0;
    return null;
  end if;
  if kinds operator(pg_catalog.&&) '{object,array}'::pg_catalog.text[] then
      wrong := case when kinds[1] operator(pg_catalog.=) any ('{object,array}'::pg_catalog.text[]) then 'id'
        when kinds[2] operator(pg_catalog.=) any ('{object,array}'::pg_catalog.text[]) then 'status' end;
      if wrong is not null then
        raise exception using errcode = '22P02', column = wrong, message = 'the value is of another kind';
      end if;
    end if;
  return case column_name 
    when 'id' then (select v.id::pg_catalog.text from pg_catalog.json_to_record(input) v (id integer))
    when 'status' then (select v.status::pg_catalog.text from pg_catalog.json_to_record(input) v (status text))
  end;
end
$$;


ALTER FUNCTION collecta.cast_inbound_1(input json, column_name text) OWNER TO collecta_writer;

--
-- Name: chain_changes(bigint[], bigint[], integer[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.chain_changes(from_states bigint[], to_states bigint[], depths integer[]) RETURNS integer[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  changes constant int := cardinality(from_states);
  source int[]; -- the states numbered from 1
  target int[];
  states int;
  first_out int[]; -- by state: the first change that leaves it; next_out, by change: the next one
  next_out int[] := array_fill(0, array[changes]);
  balance int[]; -- by state: how many more changes leave it than reach it
  start int;
  path int[] := array[]::int[];
  walk int[];
  stack_state int[];
  stack_change int[];
  height int;
  taken int;
begin
  with state as (
    select s, (row_number() over (order by s))::int as n
    from (select unnest(from_states) union select unnest(to_states)) u (s)
  )
  select array_agg(f.n order by e.i), array_agg(t.n order by e.i), (select count(*) from state)
  into source, target, states
  from unnest(from_states, to_states) with ordinality e (a, b, i)
  join state f on f.s = e.a
  join state t on t.s = e.b;
  first_out := array_fill(0, array[states]);
  balance := array_fill(0, array[states]);
  for taken in select i from generate_subscripts(depths, 1) i order by depths[i] desc, i desc loop
    next_out[taken] := first_out[source[taken]];
    first_out[source[taken]] := taken;
    balance[source[taken]] := balance[source[taken]] + 1;
    balance[target[taken]] := balance[target[taken]] - 1;
  end loop;
  -- A path begins at a state that more changes leave than reach. If something was not captured there are several paths,
  -- one after the other.
  for start in
    select source[i] from generate_subscripts(depths, 1) i
    order by balance[source[i]] <= 0, balance[source[i]] > 0 and i > 1, depths[i], i
  loop
    continue when first_out[start] = 0;
    walk := '{}';
    stack_state := array[start];
    stack_change := array[0];
    height := 1;
    while height > 0 loop
      taken := first_out[stack_state[height]];
      if taken > 0 then
        first_out[stack_state[height]] := next_out[taken];
        height := height + 1;
        stack_state[height] := target[taken];
        stack_change[height] := taken;
      else
        if stack_change[height] > 0 then
          walk := walk || stack_change[height];
        end if;
        height := height - 1;
      end if;
    end loop;
    path := path || array(select walk[i] from generate_subscripts(walk, 1) i order by i desc);
  end loop;
  return path;
end
$$;


ALTER FUNCTION collecta.chain_changes(from_states bigint[], to_states bigint[], depths integer[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION chain_changes(from_states bigint[], to_states bigint[], depths integer[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.chain_changes(from_states bigint[], to_states bigint[], depths integer[]) IS 'Puts changes of one record in order: their places in the arrays, one after the other.';


--
-- Name: changes_of_keys(bigint, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.changes_of_keys(from_change bigint, most integer) RETURNS bigint[]
    LANGUAGE sql STABLE
    AS $$
  select array_agg(o.change_id)
  from (select * from collecta.outbox o where o.change_id >= from_change order by o.change_id limit most) o
  join collecta.module_versions v on v.version = o.version
  where o.operation = 'U' and (collecta.read_change(v, o.operation, o.old, o.new)).changes_key
$$;


ALTER FUNCTION collecta.changes_of_keys(from_change bigint, most integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION changes_of_keys(from_change bigint, most integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.changes_of_keys(from_change bigint, most integer) IS 'Returns the updates that change a key, among the changes that are routed next.';


--
-- Name: check_endpoint(text, text[], text[], text, text, text, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  event_names constant text[] := array['record_created', 'record_updated', 'record_deleted', 'status_change',
    'custom_data_updated'] || collecta.alert_events();
  port constant int := substring(url from '^https?://[^/?]*:([0-9]{1,5})(?:[/?]|$)')::int;
  -- The blocked ports of https://fetch.spec.whatwg.org/#port-blocking, which the runner refuses to connect to
  -- (src/outbound/destination.ts).
  blocked_ports constant int[] := (
    '{0,1,7,9,11,13,15,17,19,20,21,22,23,25,37,42,43,53,69,77,79,87,95,101,102,103,104,109,110,111,113,115,117,119,123,'
    '135,137,139,143,161,179,389,427,465,512,513,514,515,526,530,531,532,540,548,554,556,563,587,601,636,989,990,993,'
    '995,1719,1720,1723,2049,3659,4045,4190,5060,5061,6000,6566,6665,6666,6667,6668,6669,6679,6697,10080}')::int[];
  wrong text;
begin
  wrong := case
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
  if wrong is not null then
    raise exception using errcode = 'CW011', message = 'not a valid URL for an endpoint',
      detail = format('The URL cannot be used: %s.', wrong),
      hint = 'Write it like https://hooks.example.com/orders, and put credentials into '
             'headers => ''{"authorization": "..."}''.';
  end if;
  select string_agg(coalesce(quote_literal(e), 'null'), ', ') into wrong
  from unnest(events) e where e is null or e <> all (event_names);
  if wrong is not null or coalesce(events, '{}') = '{}' then
    raise exception using errcode = 'CW012',
      message = coalesce('unknown event ' || wrong, 'an endpoint needs at least one event'),
      detail = format('Events: %s.', array_to_string(event_names, ', ')),
      hint = 'events => ''{record_created,record_updated}''';
  end if;
  select string_agg(coalesce(quote_literal(m), 'null'), ', ') into wrong
  from unnest(modules) m where m is null or not exists (select from collecta.modules known where known.slug = m);
  if wrong is not null or modules = '{}' then
    raise exception using errcode = 'CW013',
      message = coalesce('unknown module ' || wrong, 'an empty list of modules subscribes to nothing'),
      detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m),
                        'No table is attached.'),
      hint = 'modules => null means all modules. To attach a table: '
             'select collecta.attach_module(''schema.table'', ''slug'');';
  end if;
  if not collecta.is_secret(secret) then
    raise exception using errcode = 'CW014', message = 'this secret cannot be used',
      detail = 'A secret has 1 to 512 printable characters. After whsec_ there must be base64. Only collecta-webhooks '
               'makes secrets that begin with sealed:.',
      hint = 'Leave it out, and a good one is generated and returned.';
  end if;
  if filter <> '' then
    begin
      perform filter::jsonpath;
    exception when others then
      raise exception using errcode = 'CW015', message = 'the filter is not a valid SQL/JSON path', detail = sqlerrm,
        hint = 'Write a predicate over the payload: filter => ''$.record.quantity > 10''';
    end;
  end if;
  if payload_role <> '' and to_regrole(quote_ident(payload_role)) is null then
    raise exception using errcode = 'CW016', message = format('there is no role %L', payload_role),
      detail = 'The payload has only the columns that this role may select.',
      hint = format('create role %I nologin; grant select (...) on ... to %I;', payload_role, payload_role);
  end if;
  if jsonb_typeof(headers) is distinct from 'object' then
    raise exception using errcode = 'CW016', message = 'headers must be an object of strings',
      detail = format('This is %s.', coalesce('JSON of type ' || jsonb_typeof(headers), 'null')),
      hint = 'headers => ''{"authorization": "Bearer ..."}''';
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
      hint = 'headers => ''{"authorization": "Bearer ..."}''';
  end if;
end
$_$;


ALTER FUNCTION collecta.check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb) IS 'Raises CW011 to CW016 if an option of an endpoint is not valid. It checks only the form of the URL. The runner checks where it leads.';


--
-- Name: check_endpoint_id(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_endpoint_id(endpoint_id text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.check_endpoint_id(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_endpoint_id(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_endpoint_id(endpoint_id text) IS 'Raises CW010 if there is no such endpoint, it was deleted, or the caller is restricted to other scopes.';


--
-- Name: check_endpoint_limits(integer, interval, integer, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong constant text := case
    when retry_max not between 0 and 20 then 'retry_max is 0 to 20'
    when retry_base not between interval '0.1 s' and interval '1 day' then 'retry_base is 0.1 seconds to 1 day'
    when max_in_flight not between 1 and 10000 then 'max_in_flight is 1 to 10000'
    when max_per_second not between 1 and 10000 then 'max_per_second is 1 to 10000, or null for no limit' end;
begin
  if wrong is not null then
    raise exception using errcode = 'CW016', message = 'a limit of the endpoint is out of bounds',
      detail = wrong || '.',
      hint = 'The defaults are retry_max => 5, retry_base => ''60 s'', max_in_flight => 50, max_per_second => null.';
  end if;
end
$$;


ALTER FUNCTION collecta.check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer) IS 'Raises CW016 if a limit of an endpoint is out of bounds. Null is not checked.';


--
-- Name: check_endpoints(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_endpoints() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  return query
  select 'warning', 'endpoint is paused', e.endpoint_id, coalesce(e.paused_reason, ''),
    format('select collecta.resume_endpoint(%L);', e.endpoint_id)
  from collecta.endpoints e where e.state = 'paused';

  return query
  select 'warning', 'endpoint fails', e.endpoint_id, format('No delivery succeeded since %s.', f.failing_since),
    format('select started_at, outcome, response_status, error from collecta.webhook_deliveries '
           'where endpoint_id = %L order by id desc limit 5;', e.endpoint_id)
  from collecta.endpoints e
  join collecta.endpoint_flow f on f.endpoint_id = e.endpoint_id
  where e.state = 'active' and f.failing_since < now() - interval '10 minutes';

  return query
  select 'warning', 'receiver asks to wait', f.endpoint_id,
    format('It answered 429 or 503 with Retry-After; nothing is sent before %s.', f.held_until),
    format('select held_at, held_until, learned_per_second from collecta.endpoint_flow where endpoint_id = %L;',
           f.endpoint_id)
  from collecta.endpoint_flow f
  where f.held_until > now() + interval '1 minute';
end
$$;


ALTER FUNCTION collecta.check_endpoints() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_endpoints(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_endpoints() IS 'Returns the rows of collecta.health about endpoints.';


--
-- Name: check_grants(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_grants() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  return query
  select 'error', 'privileges are not as designed', min(d.object collate "C"),
    format('%s objects have privileges for roles that should have none, or lack some for roles that should have them: '
           '%s.', count(*),
           string_agg(d.object, ', ') filter (where d.place <= 5) || case when count(*) > 5 then ' ...' else '' end),
    'select * from collecta.restore_grants();'
  from (select differing.object, row_number() over (order by differing.object collate "C") as place
        from collecta.differing_grants() differing) d
  having count(*) > 0;

  -- After a restore without the roles, everything belongs to the role that restored it.
  return query
  select 'error', 'objects have the wrong owner', min(o.name collate "C"),
    format('%s objects do not belong to the role as which they should run.', count(*)),
    -- Only a member of a role can hand objects over to it.
    coalesce((
      select string_agg(format('grant %I to %I;', r.rolname, owner.rolname), ' ' order by r.rolname)
        || ' -- as a role that may; then: collecta-webhooks migrate'
      from pg_roles r
      join pg_roles owner on owner.oid = (
        select n.nspowner from pg_namespace n where n.nspname = 'collecta')
      where r.rolname in (collecta.role_name('collecta_viewer'), collecta.role_name('collecta_capture'),
          collecta.role_name('collecta_writer')) and not pg_has_role(owner.oid, r.oid, 'usage')),
      'collecta-webhooks migrate')
  from (
    select c.oid::regclass::text as name, c.relowner as owner, false as is_written,
      c.relname = any (collecta.walled_views()) as is_walled
    from pg_class c
    where c.relnamespace = 'collecta'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
    union all
    select p.oid::regprocedure::text, p.proowner, p.proname ~ '^(write|cast)_inbound_[0-9]+',
      false
    from pg_proc p
    where p.pronamespace in (select n.oid from pg_namespace n
                             where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows'))
  ) o
  join pg_roles r on r.oid = o.owner
  cross join (select n.nspowner as owner from pg_namespace n where n.nspname = 'collecta') schema
  where case
      -- With another owner, the policies of the tables that it reads would not apply.
      when o.is_walled and to_regrole(quote_ident(collecta.role_name('collecta_viewer'))) is not null
        then r.rolname <> collecta.role_name('collecta_viewer')
      else r.rolname not in (collecta.role_name('collecta_owner'), collecta.role_name('collecta_capture'),
                             collecta.role_name('collecta_writer'))
        and r.rolname not in (select collecta.role_name(e.writer) from collecta.inbound_endpoints e)
        -- An install without roles of its own belongs to the installer, which should not be a superuser.
        and (r.rolsuper or o.owner <> schema.owner) end
    -- An inbound endpoint may have its own writer role, which must be a NOLOGIN role.
    and not (o.is_written and not r.rolsuper and not r.rolcanlogin)
  having count(*) > 0;
end
$$;


ALTER FUNCTION collecta.check_grants() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_grants(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_grants() IS 'Returns the rows of collecta.health about owners and privileges.';


--
-- Name: check_health(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_health() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET row_security TO 'on'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $_$
declare
  scopes constant text[] := collecta.visible_scopes();
  topic text;
begin
  foreach topic in array array['grants', 'install', 'modules', 'endpoints', 'outbound', 'inbound'] loop
    begin
      return query execute format(
        'select c.* from collecta.%I() c where $1 is null or c.subject in ('
        'select e.endpoint_id from collecta.endpoints e where e.scope = any ($1))', 'check_' || topic) using scopes;
    exception when others then
      return query select 'error', 'check failed', topic,
        format('collecta.check_%s() ended with SQLSTATE %s, so nothing is known about this topic.', topic, sqlstate),
        format('select * from collecta.check_%s(); -- as the owner of collecta: shows the error', topic);
    end;
  end loop;
end
$_$;


ALTER FUNCTION collecta.check_health() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_health(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_health() IS 'Returns the rows of collecta.health. A caller who is restricted to scopes gets those about their endpoints.';


--
-- Name: check_inbound(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
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
$_$;


ALTER FUNCTION collecta.check_inbound() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound() IS 'Rows of collecta.health about inbound endpoints.';


--
-- Name: check_inbound_endpoint_id(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound_endpoint_id(inbound_endpoint_id text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- Inbound endpoints have no scope, so a login that is restricted to scopes sees none of them.
  if collecta.visible_scopes() is not null or not exists (
    select from collecta.inbound_endpoints e
    where e.inbound_endpoint_id = check_inbound_endpoint_id.inbound_endpoint_id and e.state <> 'deleted'
  ) then
    raise exception using errcode = 'CW050', message = format('there is no inbound endpoint %L', inbound_endpoint_id),
      detail = case when collecta.visible_scopes() is not null then 'You are restricted to scopes, and it has none.'
        when exists (select from collecta.inbound_endpoints e
          where e.inbound_endpoint_id = check_inbound_endpoint_id.inbound_endpoint_id)
        then 'It was deleted.' else 'No inbound endpoint ever had this id.' end,
      hint = 'select inbound_endpoint_id, module, state from collecta.inbound_endpoints where state <> ''deleted'';';
  end if;
end
$$;


ALTER FUNCTION collecta.check_inbound_endpoint_id(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound_endpoint_id(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound_endpoint_id(inbound_endpoint_id text) IS 'CW050 unless the inbound endpoint exists.';


--
-- Name: check_inbound_mapping(text, jsonb, text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  target record;
  wrong text;
  missing text;
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
      hint = concat(case when target.is_gone then format('select collecta.detach_module(%L); ', module) end,
        format('select collecta.attach_module(''schema.table'', %L);', coalesce(module, 'work-orders')));
  end if;
  relation := target.relation;

  -- Only these columns of the catalog can be mapped. A sender cannot choose values that identify a record, a tenant or
  -- a person.
  select string_agg(format('%I %s', f.column_name, f.why), '; ') into wrong
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
  select string_agg(format('%I', a.attname), ', ') into missing
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = target.relation and a.attnum > 0 and not a.attisdropped and a.attnotnull
    and not a.atthasdef and a.attidentity = '' and a.attgenerated = '' and t.typdefault is null
    and a.attname <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r);
  if wrong is not null or missing is not null then
    raise exception using errcode = 'CW053', message = format('this mapping cannot write %s', target.relation),
      -- Not by format(), which writes a null as nothing: where none is missing, there is nothing to say about it.
      detail = concat_ws('; ', 'Column ' || wrong,
        'Column ' || missing || ' must not be null, has no default and is not mapped') || '.',
      hint = case when missing is not null
        then format('Map it, or: alter table %s alter column %s set default ...;', target.relation,
                    split_part(missing, ', ', 1))
        else format('\d %s', target.relation) end;
  end if;

  select string_agg(format('%I', c), ', ') into wrong
  from unnest(match_columns) c
  where c is null or c <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r);
  if wrong is not null or array_position(match_columns, null) > 0 then
    raise exception using errcode = 'CW054', message = format('match column %s is not mapped', coalesce(wrong, 'null')),
      detail = 'A record is matched by what the payload says; so each match column needs its entry in the mapping.',
      hint = format('mapping => %L', mapping || coalesce((
        select jsonb_object_agg(c, jsonb_build_object('required', true, 'path',
          case when c ~ '^[A-Za-z_][A-Za-z0-9_-]*$' collate "C" then '$.' || c else format('$[''%s'']', c) end))
        from unnest(match_columns) c
        where c <> all (select r.column_name from collecta.read_inbound_mapping(mapping) r)), '{}'));
  end if;
  matched := collecta.inbound_match_columns(
    array(select r.column_name from collecta.read_inbound_mapping(mapping) r), coalesce(match_columns, '{}'),
      target.scope_column);
  if matched = '{}' then
    if match_where is not null then
      raise exception using errcode = 'CW054', message = 'match_where needs match_columns',
        detail = 'It limits which records can be matched.', hint = 'match_columns => ''{product_code}''';
    end if;
    return;
  end if;
  select string_agg(format('%I', c), ', ') into wrong
  from unnest(matched) c
  join pg_catalog.pg_attribute a on a.attrelid = target.relation and a.attname = c and not a.attisdropped
  where (select e.operator from collecta.equality_of(a.atttypid) e) is null;
  if wrong is not null then
    raise exception using errcode = 'CW054',
      message = format('a match column of %s cannot be compared', target.relation),
      detail = format('The type of %s has no equality operator that indexes could use.', wrong),
      hint = 'Match by another column, or change this one''s type: alter table ... alter column ... type jsonb;';
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
$_$;


ALTER FUNCTION collecta.check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass) IS 'Refuses, each with its hint, what a mapping cannot have (CW051 to CW054); returns the module''s table and match_where, which is read from the partial unique index on the match columns where it is not given.';


--
-- Name: check_inbound_overlap(text, interval); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound_overlap(inbound_endpoint_id text, overlap interval) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform collecta.check_inbound_endpoint_id(inbound_endpoint_id);
  if overlap is null or overlap < interval '0' or overlap > interval '90 days' then
    raise exception using errcode = 'CW055', message = format('the overlap cannot be %s', overlap),
      detail = 'It is from ''0'' (after a leak) to ''90 days''.',
      hint = format('select collecta.rotate_inbound_token(%L, overlap => ''24 hours'');', inbound_endpoint_id);
  end if;
end
$$;


ALTER FUNCTION collecta.check_inbound_overlap(inbound_endpoint_id text, overlap interval) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound_overlap(inbound_endpoint_id text, overlap interval); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound_overlap(inbound_endpoint_id text, overlap interval) IS 'CW050 or CW055 unless this endpoint can be rotated with this overlap.';


--
-- Name: check_inbound_sender(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound_sender() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  signature jsonb;
  handshake jsonb;
  wrong text;
begin
  if jsonb_typeof(new.signatures) <> 'array' or jsonb_typeof(new.handshakes) <> 'array' then
    wrong := 'signatures and handshakes are arrays of objects';
  end if;
  for signature in select s from jsonb_array_elements(case when wrong is null then new.signatures else '[]' end) s loop
    wrong := coalesce(wrong, case
      when jsonb_typeof(signature) <> 'object' then 'a signature is an object'
      when signature - '{in,separator,prefix,encoding,hash,key,signed,id,timestamp,max_age}'::text[] <> '{}'
        then 'a signature has a member that is none of in, separator, prefix, encoding, hash, key, signed, id, '
          'timestamp, max_age'
      when exists (select from jsonb_each(signature) m where m.key <> 'max_age' and jsonb_typeof(m.value) <> 'string')
        then 'the members of a signature are texts, except max_age'
      when not collecta.is_inbound_source(signature ->> 'in') then 'in is header:<name> or a path'
      when coalesce(signature ->> 'encoding', 'hex') not in ('hex', 'base64', 'plain')
        then 'encoding is hex, base64 or plain'
      when coalesce(signature ->> 'hash', 'sha256') not in ('sha256', 'sha1', 'sha512')
        then 'hash is sha256, sha1 or sha512'
      when coalesce(signature ->> 'key', 'text') not in ('text', 'base64') then 'key is text or base64'
      when signature ? 'id' and not collecta.is_inbound_source(signature ->> 'id')
        then 'id is header:<name> or a path'
      when signature ? 'timestamp' and signature ->> 'timestamp' not like 'signature:%'
        and not collecta.is_inbound_source(signature ->> 'timestamp')
        then 'timestamp is header:<name>, a path or signature:<prefix>'
      when signature ->> 'encoding' is distinct from 'plain'
        and coalesce(signature ->> 'signed', '') !~ '\{(body|form|timestamp|id|\$[^}]*)\}' collate "C"
        then 'signed is a template with {body}, {form} or what else is signed'
      when not collecta.is_inbound_template(signature ->> 'signed', array['body', 'form', 'url', 'token',
          case when signature ? 'id' then 'id' end, case when signature ? 'timestamp' then 'timestamp' end])
        then 'signed has a placeholder that is none of {body}, {form}, {url}, {token}, {header:<name>}, {$.path}, and '
          '{id} and {timestamp} where these are given'
      when signature ? 'max_age' and not (jsonb_typeof(signature -> 'max_age') = 'number'
          and (signature ->> 'max_age')::numeric between 1 and 1000000)
        then 'max_age is a number of seconds, from 1 to 1000000' end);
  end loop;
  for handshake in select h from jsonb_array_elements(case when wrong is null then new.handshakes else '[]' end) h loop
    wrong := coalesce(wrong, case
      when jsonb_typeof(handshake) <> 'object' or jsonb_typeof(handshake -> 'when') is distinct from 'object'
        or handshake -> 'when' = '{}' or jsonb_typeof(handshake -> 'answer') is distinct from 'string'
        then 'a handshake has when and answer'
      when handshake - '{method,when,answer,signed}'::text[] <> '{}'
        then 'a handshake has a member that is none of method, when, answer, signed'
      when coalesce(handshake -> 'method', '"POST"') not in ('"GET"', '"POST"') then 'method is GET or POST'
      when jsonb_typeof(coalesce(handshake -> 'signed', 'false')) <> 'boolean' then 'signed is true or false'
      when exists (
        select from jsonb_each(handshake -> 'when') c
        where not collecta.is_inbound_source(c.key) or c.value <> 'true' and jsonb_typeof(c.value) <> 'string')
        then 'when says which text header:<name>, query:<name> or a path has, or true for any'
      when not collecta.is_inbound_template(handshake ->> 'answer', '{body,form,url,token}')
        then 'answer has a placeholder that is none of {token}, {query:<name>}, {header:<name>} and {$.path}' end);
  end loop;
  wrong := coalesce(wrong, case
    when array_position(new.ids, null) > 0 or array_position(new.ignored_events, null) > 0
      then 'ids and ignored_events have no null'
    when new.each is not null and collecta.inbound_path_steps(new.each) is null then 'each is a path: $.alerts' end);
  if wrong is null then
    select format('%s is no header:<name> and no path', s) into wrong
    from unnest(new.ids || new.event) s where s is not null and not collecta.is_inbound_source(s) limit 1;
  end if;
  if wrong is not null then
    raise exception using errcode = 'CW057', message = format('sender %s cannot be used', new.sender),
      detail = format('The rule: %s.', wrong),
      hint = 'select * from collecta.inbound_senders where sender = ''github''; -- is an example';
  end if;
  perform pg_notify('collecta_inbound', '');
  return new;
end
$_$;


ALTER FUNCTION collecta.check_inbound_sender() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound_sender(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound_sender() IS 'CW057 unless a row of inbound_senders can be understood.';


--
-- Name: check_inbound_writer(regclass, name); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_inbound_writer(relation regclass, writer name) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  role pg_catalog.pg_roles;
  owner regrole;
  other record;
  own_writer name;
  run_as constant name := collecta.role_name(writer);
begin
  select r.* into role from pg_catalog.pg_roles r where r.rolname = run_as;
  if writer = 'collecta_writer' and collecta.written_owner(writer) <> run_as then
    -- If collecta was installed without roles, everything runs as the installer, as the installation's notice says.
    return;
  end if;
  if role.oid is null or role.rolsuper or role.rolbypassrls or not pg_has_role(current_user, role.oid, 'usage') then
    raise exception using errcode = 'CW056', message = format('%I cannot be a writer', run_as),
      detail = case when role.oid is null then 'There is no such role.'
        when role.rolsuper or role.rolbypassrls then 'It could do more than to write the mapped columns.'
        else format('%I is no member of it.', current_user) end,
      hint = format('create role %1$I nologin; grant %1$I to %2$I;',
        case when role.oid is null then run_as else collecta.role_name('collecta_writer_2') end, current_user);
  end if;
  select c.relowner into owner from pg_catalog.pg_class c where c.oid = relation;
  select e.relation, c.relowner::regrole as owner into other
  from collecta.inbound_endpoints e
  join pg_catalog.pg_class c on c.oid = e.relation
  where e.writer = check_inbound_writer.writer and e.state <> 'deleted' and c.relowner <> owner
  limit 1;
  if found then
    own_writer := left(collecta.role_name('collecta_writer_' || btrim(owner::text, '"')), 63);
    raise exception using errcode = 'CW056',
      message = format('%s and %s have different owners and need writers of their own', relation, other.relation),
      detail = format('Triggers, checks and defaults of both would run as %I, so that %s could write %s.',
        run_as, owner, other.relation),
      hint = format('%sThen the same call with writer => %L.',
        case when to_regrole(quote_ident(own_writer)) is null
          then format('create role %1$I nologin; grant %1$I to %2$I; ', own_writer, current_user) end, own_writer);
  end if;
end
$_$;


ALTER FUNCTION collecta.check_inbound_writer(relation regclass, writer name) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_inbound_writer(relation regclass, writer name); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_inbound_writer(relation regclass, writer name) IS 'CW056 unless this role can run the code of this table and of no other owner''s.';


--
-- Name: check_install(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_install() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
begin
  return query
  select 'error', 'rows are missing', current_database()::text,
    'This looks like a copy of the schema without its rows: the triggers capture changes, but there are no modules and '
    'endpoints to route them to.',
    'collecta-webhooks migrate'
  where not exists (select from collecta.installation) or not exists (select from collecta.settings);

  return query
  select 'info', 'this copy does not deliver', current_database()::text,
    format('Since %s: collecta.disable_copy() was called.', i.since),
    'select collecta.resume_after_restore(); -- if this database is to deliver after all'
  from collecta.installation i where not i.delivers;

  return query
  select 'error', 'database is a copy', current_database()::text,
    'collecta was installed in another database. No delivery is claimed and no inbound request is accepted here. '
    'resume_after_restore() sends what the original had not sent yet.',
    'If this database is to deliver now: select collecta.resume_after_restore(); '
    'if it never shall: select collecta.disable_copy();'
  from collecta.installation i
  where i.delivers and i.identity <> collecta.database_identity();

  return query
  select 'warning', 'a login can claim for two databases', member.rolname::text,
    format('%s is a member of %s and may connect to this database and to %s. So a runner that uses this login could '
           'send what is queued in any of them.', member.rolname, dispatcher.rolname,
           string_agg(distinct other.datname::text, ', ')),
    -- Everybody but this login keeps the right to connect.
    string_agg(distinct format('%srevoke connect on database %I from public, %I;',
        (select format('grant connect on database %I to %s; ', other.datname,
           string_agg(quote_ident(l.rolname), ', ' order by l.rolname))
         from pg_roles l
         where l.rolcanlogin and not l.rolsuper and l.oid <> member.oid
           and has_database_privilege(l.oid, other.oid, 'connect')
         having count(*) > 0),
        other.datname, member.rolname), ' ')
      || format(' -- as the owner of that database, if %I is to deliver for %I only', member.rolname,
                current_database())
  from pg_roles dispatcher
  -- pg_shdepend says in which databases the role has privileges.
  join pg_shdepend used on used.refclassid = 'pg_authid'::regclass and used.refobjid = dispatcher.oid
  join pg_database other on other.oid = used.dbid and other.datname <> current_database()
  join pg_roles member on member.rolcanlogin and not member.rolsuper
    and pg_has_role(member.oid, dispatcher.oid, 'member')
  where dispatcher.rolname = collecta.role_name('collecta_dispatcher')
    and has_database_privilege(member.oid, current_database(), 'connect')
    and has_database_privilege(member.oid, other.oid, 'connect')
  group by member.rolname, dispatcher.rolname;

  return query
  select 'warning', 'restricted login is gone', l.login::text,
    format('No role has this name%s. One that gets it will be restricted to its scopes.', coalesce(
      (select format('; it is called %s now and still restricted', r.rolname) from pg_roles r
       where r.oid = l.login_oid and l.database = collecta.database_identity()), '')),
    format('select collecta.unrestrict_login(%L);', l.login)
  from collecta.restricted_logins l
  where to_regrole(quote_ident(l.login)) is null;

  return query
  select 'error', 'restriction does not hold', l.login::text,
    format('%s is restricted to scopes and %s.', l.login, collecta.why_not_restricted(l.login)),
    format('alter role %I nosuperuser nobypassrls; -- and revoke memberships that give it more; or: '
           'select collecta.unrestrict_login(%L);', l.login, l.login)
  from collecta.restricted_logins l
  where collecta.why_not_restricted(l.login) is not null;

  return query
  select 'warning', 'publication for all tables', p.pubname::text,
    'It includes collecta''s tables. Each new partition stops the subscriber until the table exists there.',
    format('drop publication %I; -- and create one that names its tables', p.pubname)
  from pg_publication p where p.puballtables;
end
$$;


ALTER FUNCTION collecta.check_install() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_install(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_install() IS 'Returns the rows of collecta.health about the database and the install.';


--
-- Name: check_installation(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_installation(environment text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  installation collecta.installation;
  -- The identity cannot change within a session, so it is determined once and kept in this setting.
  identity text := current_setting('collecta.identity', true);
begin
  if coalesce(identity, '') = '' then
    identity := collecta.database_identity();
    perform set_config('collecta.identity', identity, false);
  end if;
  select * into installation from collecta.installation;
  if not found then
    raise exception using errcode = 'CW040', message = 'this database has collecta''s schema without its rows',
      detail = 'It looks like a copy of the schema alone. Nothing is claimed.', hint = 'collecta-webhooks migrate';
  end if;
  if not installation.delivers then
    raise exception using errcode = 'CW040', message = 'this copy of a database is not to deliver',
      detail = 'Somebody called collecta.disable_copy() here. Nothing is captured and nothing is claimed.',
      hint = 'If it is to deliver after all: select collecta.resume_after_restore();';
  end if;
  if installation.identity = identity then
    if installation.environment is null and environment is not null then
      update collecta.installation i set environment = check_installation.environment where i.environment is null;
      return;
    end if;
    if installation.environment is not distinct from environment then
      return;
    end if;
    raise exception using errcode = 'CW040',
      message = format('this database delivers for environment %L, this runner is of %s', installation.environment,
                       coalesce(quote_literal(environment), 'none')),
      detail = 'Only this label tells a physical copy of a database from its original. Nothing is claimed.',
      hint = case
        when environment is null
          then format('If the runner belongs to that environment, start it with COLLECTA_ENVIRONMENT=%s.',
                      installation.environment)
        else format('If this database is to deliver for it: select collecta.resume_after_restore(%L);', environment)
        end;
  end if;
  raise exception using errcode = 'CW040', message = 'this database is a copy: collecta was installed in another one',
    detail = 'After a restore, a clone or pg_upgrade nothing is claimed, so that a copy does not send its original''s '
             'webhooks.',
    hint = 'If this database is to deliver now: select collecta.resume_after_restore(); '
           'if it never shall: select collecta.disable_copy();';
end
$$;


ALTER FUNCTION collecta.check_installation(environment text) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_installation(environment text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_installation(environment text) IS 'Raises CW040 if this database is a copy of the one that collecta was installed in, or delivers for another environment than the runner''s.';


--
-- Name: check_module(regclass, text, text, text, text, text[], text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;


ALTER FUNCTION collecta.check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) IS 'Raises an error, with a hint, if attach_module cannot capture the table. Returns the columns of the key.';


--
-- Name: check_modules(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_modules() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
#variable_conflict use_column
declare
  capturer constant name := collecta.capturing_role();
  capturer_id constant oid := quote_ident(capturer)::regrole;
  missing text;
  identity constant text := collecta.database_identity();
  on_citus constant boolean := to_regclass('pg_catalog.pg_dist_partition') is not null;
  before constant jsonb := collecta.enter_citus();
begin
  return query select * from collecta.check_shards();

  return query
  select 'error', 'table is gone', m.slug, 'The table of this module was dropped.',
    format('select collecta.detach_module(%L);', m.slug)
  from collecta.modules m where not exists (select from pg_class c where c.oid = m.relation);

  return query
  select 'error', 'table was replaced', m.slug,
    format('What was attached as %s is now called %s, and another table is %1$s. Its changes are not captured.',
      m.attached_as, m.relation),
    format('select collecta.detach_module(%L); %s', m.slug, collecta.attach_call(to_regclass(m.attached_as), m.slug,
      v.status_column, v.custom_data_column, v.scope_column, v.exclude_columns, v.ignore_columns,
      case when v.key_is_named then v.key_columns end, v.on_truncate))
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  where m.attached_as <> m.relation::text and to_regclass(m.attached_as) <> m.relation;

  return query
  select 'error', 'configured column is gone', m.slug,
    format('Column %s of %s was renamed or dropped. Its changes will be set aside in collecta.unrouted.',
           array_to_string(gone.names, ', '), m.relation),
    collecta.attach_again(v) || ' select collecta.route_again();'
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_class c on c.oid = m.relation
  cross join lateral (
    select array(
      select name from unnest(v.key_columns || v.status_column || v.custom_data_column || v.scope_column) name
      where not exists (
        select from pg_attribute a
        where a.attrelid = m.relation and a.attname = name and not a.attisdropped)
        and name is not null) as names) gone
  where gone.names <> '{}';

  return query
  select 'error', 'key changed', m.slug,
    format('Its records are told apart by (%s), which is %s of %s any more.', array_to_string(v.key_columns, ', '),
      case when v.key_is_named then 'not a unique key' else 'not the primary key' end, m.relation),
    case when keys.columns is null then collecta.add_key_call(m.relation) || ' ' else '' end || collecta.attach_again(v)
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_class c on c.oid = m.relation
  left join lateral (
    select k.columns from collecta.keys_of(m.relation) k
    where case when v.key_is_named then k.columns @> v.key_columns and k.columns <@ v.key_columns else k.is_primary end
    limit 1) keys on true
  where (keys.columns is null or not v.key_is_named and keys.columns <> v.key_columns)
    -- A renamed key column is reported by a row of its own, above.
    and not exists (select from unnest(v.key_columns) name
      where not exists (
        select from pg_attribute a
        where a.attrelid = m.relation and a.attname = name and not a.attisdropped));

  return query
  select 'error', 'excluded column is unknown', m.slug,
    format('The database was restored, and nobody knows where the column %s is. Until the module is attached again, '
      'only key, scope and status of its records are captured.', array_to_string(collecta.unresolved_columns(v), ', ')),
    collecta.attach_call(m.relation, m.slug, v.status_column, v.custom_data_column, v.scope_column,
      coalesce(nullif(array(select name from unnest(v.exclude_columns) name
        where name <> all (collecta.unresolved_columns(v))), '{}'), '{}'), v.ignore_columns,
      case when v.key_is_named then v.key_columns end, v.on_truncate)
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_class c on c.oid = m.relation
  where v.exclude_columns <> '{}' and v.database = identity
    and collecta.unresolved_columns(v) <> '{}';

  return query
  select 'error', 'columns are not looked up', m.slug,
    'The database was restored since it was attached. Until its columns are looked up again, only key, scope and '
      'status of its records are captured if it has exclude_columns.',
    'select * from collecta.maintain();'
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  join pg_class c on c.oid = m.relation
  where v.database <> identity;

  return query
  select 'error', 'capture function was altered', m.slug,
    format('Function %s of the module is not as it was written.', (
      select string_agg(task, ', ' order by task collate "C") from jsonb_each(m.written_hash) w (task, hash)
      where h.hash -> task is distinct from w.hash)),
    'select * from collecta.maintain();'
  from collecta.modules m
  join pg_class c on c.oid = m.relation
  left join collecta.capture_hashes() h using (module_id)
  where m.written_hash is distinct from h.hash;

  return query
  with member as (
    -- A shard, like a table without partitions, is only ever written to directly, so it needs all triggers itself.
    select m.slug, m.module_id, p.relid::oid as relid,
      p.relid = m.relation or collecta.is_distributed(m.relation) as is_root
    from collecta.modules m
    join pg_class c on c.oid = m.relation
    cross join lateral collecta.module_members(m.relation) p
    where c.relkind <> 'r' or on_citus
    union all
    -- Nearly all of them are plain tables, which need no look-up of their parts.
    select m.slug, m.module_id, c.oid, true
    from collecta.modules m
    join pg_class c on c.oid = m.relation
    where c.relkind = 'r' and not on_citus
  ), standing as (
    select member.slug, member.relid, member.is_root, c.relkind, task, t.tgenabled,
      -- Joined by names, and not by to_regproc, which takes a hundred times as long for thousands of functions.
      (t.tgfoid = f.oid) as is_ours
    from member
    join pg_class c on c.oid = member.relid and c.relkind in ('r', 'p')
    cross join unnest(array['insert', 'update', 'delete', 'truncate']) task
    left join pg_trigger t on t.tgrelid = member.relid and t.tgname = 'collecta_capture_' || task
    left join pg_proc f on f.pronamespace = 'collecta_modules'::regnamespace
      and f.proname = format('capture_%s_%s', member.module_id, task)
    where not (task = 'truncate' and c.relkind = 'p')
  )
  select p.severity, p.problem, s.slug, format(p.detail, s.relid::regclass, s.lacking),
    case when s.is_complete
      then (select string_agg(format('alter table %s enable trigger collecta_capture_%s;', s.relid::regclass, task),
          ' ')
        from unnest(s.disabled) task)
      else format('select collecta.attach_partitions(%L);', s.slug) end
  from (
    select slug, relid, is_root or bool_or(is_ours) is true as is_attached, bool_and(is_ours is true) as is_complete,
      string_agg(task, ', ' order by task collate "C")
        filter (where is_ours is not true or tgenabled not in ('O', 'A')) as lacking,
      array_agg(task) filter (where tgenabled not in ('O', 'A')) as disabled
    from standing
    group by slug, relid, is_root) s
  cross join lateral (
    select 'error', 'changes are not captured', '%s lacks an enabled capture trigger for %s.' where s.is_attached
    union all
    select 'warning', 'partition is not attached',
      'What is written to partition %s directly, and its TRUNCATE, is not captured.' where not s.is_attached
    ) p (severity, problem, detail)
  where s.lacking is not null;

  return query
  select 'error', 'trigger of another table', m.slug,
    format('%s has triggers of a module that it does not belong to: it was restored from another database, or is a '
      'partition that was detached. They capture nothing.', t.tgrelid::regclass),
    string_agg(format('drop trigger %I on %s;', t.tgname, t.tgrelid::regclass), ' ' order by t.tgname)
  from collecta.modules m
  cross join unnest(array['insert', 'update', 'delete', 'truncate']) task
  join pg_proc f on f.pronamespace = 'collecta_modules'::regnamespace
    and f.proname = format('capture_%s_%s', m.module_id, task)
  join pg_trigger t on t.tgfoid = f.oid
  where t.tgrelid <> m.relation and t.tgrelid not in (select p.relid from collecta.module_members(m.relation) p)
  group by m.slug, t.tgrelid;

  return query
  select 'error', 'it became a partition or inherits', m.slug,
    format('%s is part of another table, or another of it: what is written through the one fires nothing of the other.',
           m.relation),
    format('select collecta.detach_module(%L); -- then attach the root of its partition tree', m.slug)
  from collecta.modules m join pg_class c on c.oid = m.relation
  where exists (select from pg_inherits i where i.inhrelid = c.oid)
    or c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid);

  return query
  select 'error', 'logical replication writes it', m.slug,
    'Its apply fires no statement trigger: nothing is captured.',
    format('select collecta.detach_module(%L); -- then attach it on the publisher', m.slug)
  from pg_subscription_rel s
  join collecta.modules m on m.relation = s.srrelid
    or m.relation in (select a.relid from pg_partition_ancestors(s.srrelid) a);

  return query
  select 'error', 'truncate is captured as one', m.slug,
    format('TRUNCATE of %s sends one record_deleted without a record, since %s.', c.oid::regclass, why),
    collecta.truncate_remedy(c.oid)
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version and v.on_truncate = 'records'
  join pg_class root on root.oid = m.relation
  cross join lateral (
    select m.relation::oid
    union all
    select p.relid::oid from pg_inherits i cross join lateral pg_partition_tree(root.oid) p
    where root.relkind = 'p' and i.inhparent = root.oid group by p.relid) tree (relid)
  join pg_class c on c.oid = tree.relid and c.relkind = 'r'
  cross join lateral collecta.truncate_problem(c.oid) why
  -- The cheap conditions come first: truncate_problem is slow, and few tables need it.
  where (c.relrowsecurity or not has_table_privilege(capturer, c.oid, 'select')
      or not has_schema_privilege(capturer, c.relnamespace, 'usage')
      or exists (select from pg_index i where i.indrelid = c.oid and (i.indexprs is not null or i.indpred is not null))
      or exists (select from pg_statistic_ext s where s.stxrelid = c.oid and s.stxexprs is not null))
    and why is not null
    and exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'collecta_capture_truncate');

  return query
  select p.severity, p.problem, m.slug, format(p.detail, a.attname, k.castfunc::regprocedure),
    format('select proname, proowner::regrole from pg_catalog.pg_proc where oid = %L::regprocedure;',
      k.castfunc::regprocedure)
  from collecta.modules m
  join pg_attribute a on a.attrelid = m.relation and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
  join pg_type t on t.oid = a.atttypid
  join pg_cast k on k.castsource in (t.oid, t.typelem, t.typbasetype) and k.casttarget = 'json'::regtype
    and k.castfunc <> 0
  cross join lateral (
    select 'warning', 'cast to json is not used',
      'Column %s is captured as its text: its type''s cast to json, %s, or the type belongs to an ordinary role, whose '
      'code does not run in capture.'
    where collecta.type_kind(a.atttypid) = 'untrusted'
    union all
    select 'info', 'values may be captured as text',
      'Column %s is captured through the cast to json of its type, %s; a value that this refuses, as its text.'
    where collecta.type_kind(a.atttypid) = 'trusted') p (severity, problem, detail);

  select string_agg(lacking.statement, '; ' order by lacking.statement) into missing
  from (
    select format('grant %s on %s to %I', g.privilege,
      case g.kind when 'schema' then format('schema %I', g.object)
        when 'relation' then format('collecta.%I', g.object)
        else format('function %s', p.oid::regprocedure) end,
      capturer)
    from collecta.designed_grants() g
    left join pg_catalog.pg_proc p
      on g.kind = 'function' and p.pronamespace = 'collecta'::regnamespace and p.proname = g.object
    where g.grantee = collecta.role_name('collecta_capture')
      and not case g.kind when 'schema' then has_schema_privilege(capturer, g.object, g.privilege)
        when 'relation' then has_table_privilege(capturer, format('collecta.%I', g.object), g.privilege)
        else has_function_privilege(capturer, p.oid, g.privilege) end
    union all
    select format('grant execute on function %s to %I', p.oid::regprocedure, capturer)
    from pg_catalog.pg_proc p
    where p.pronamespace = 'collecta_rows'::regnamespace and not has_function_privilege(capturer_id, p.oid, 'execute')
  ) lacking (statement);
  if missing is not null then
    return query select 'error', 'capture lacks rights', capturer::text,
      'Its rights were revoked. Writers do not fail, but each statement raises a warning. Until the rights are granted '
      'again, changes are lost, or captured in part.', missing || ';';
  end if;
  perform collecta.leave_citus(before);
end
$_$;


ALTER FUNCTION collecta.check_modules() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_modules(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_modules() IS 'Returns the rows of collecta.health about attached tables.';


--
-- Name: check_outbound(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_outbound() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
declare
  scopes constant text[] := collecta.visible_scopes();
begin
  return query
  select 'error', 'partition is missing', parent, 'Nothing can be routed without a partition for today.',
    'select * from collecta.maintain();'
  from unnest(array['events', 'delivery_attempts']) parent
  where to_regclass(format('collecta.%I', parent || to_char(now() at time zone 'UTC', '_YYYYMMDD'))) is null;

  -- Partitions are made for three days ahead. If the one for the day after tomorrow is missing, none was made for a
  -- day, and one day is left.
  return query
  select 'warning', 'partitions are not made ahead', parent,
    format('There is none for %s. Once the days that are there have passed, nothing can be routed any more.', day),
    'select * from collecta.maintain(); -- says what fails: an event trigger, a missing right, no runner'
  from unnest(array['events', 'delivery_attempts']) parent,
    (select (now() at time zone 'UTC')::date + 2) tomorrow_but_one (day)
  where to_regclass(format('collecta.%I', parent || to_char(day, '_YYYYMMDD'))) is null;

  -- The reason of an unrouted change quotes values, which row security may hide from the reader of health. So only
  -- collecta.unrouted shows it.
  return query
  select 'warning', 'changes are set aside', u.module,
    format('%s not routed%s since %s.', count(*),
           case u.endpoint_id when '' then '' else ' to ' || u.endpoint_id end, min(u.set_aside_at)),
    format('select change_id, reason from collecta.unrouted where module = %L; '
           'select collecta.route_again(); -- once the cause is mended', u.module)
  from collecta.unrouted u group by u.module, u.endpoint_id;

  return query
  select 'error', 'routing fails', 'outbox',
    format('Since %s, last at %s, with SQLSTATE %s: %s', t.since, t.seen_at, t.sqlstate,
           case t.sqlstate when '55P03' then 'a lock is held for too long' else 'see collecta.routing_trouble' end),
    case t.sqlstate when '55P03'
      then 'select pid, query from pg_stat_activity '
        'where pid in (select unnest(pg_blocking_pids(pid)) from pg_stat_activity);'
      else 'select * from collecta.routing_trouble;' end
  from collecta.routing_trouble t
  where t.seen_at > now() - interval '1 minute' and exists (select from collecta.outbox);

  return query
  select 'warning', 'changes wait to be put in order', coalesce(v.slug, m.module_id::text),
    format('One transaction changed thousands of records, each of them several times. Since %s a runner puts them in '
           'order; other modules are routed in the meantime.', m.since),
    format('select * from collecta.reorderings where module_id = %s; -- empty, or ended_in is set, when it is done',
           m.module_id)
  from collecta.reorderings m
  left join collecta.modules v on v.module_id = m.module_id
  where m.ended_in is null and m.since < now() - interval '1 minute';

  -- health is read often, so this is bounded: one row for each of the 100 endpoints that gave up last, which counts up
  -- to 20 deliveries, and one row for all others. A login that is restricted to scopes gets the 100 among its own
  -- endpoints.
  return query
  with concerned as materialized (
    select e.endpoint_id, g.last, row_number() over (order by g.last desc) as place
    from (
      select a.endpoint_id, max(a.id) as last from collecta.delivery_attempts a
      where a.outcome = 'exhausted' and a.id >= collecta.attempt_id_at(now() - interval '7 days') group by 1) g
    join collecta.endpoints e on e.endpoint_id = g.endpoint_id
    where e.state <> 'deleted' and (scopes is null or e.scope = any (scopes))
  )
  select 'warning', 'deliveries were given up', c.endpoint_id,
    format('%s%s in the last 7 days; the last at %s.', case when count(*) > 20 then 'more than ' end,
      least(count(*), 20), max(u.finished_at)),
    format('select id, event, record_id, error from collecta.undelivered where endpoint_id = %L order by id limit 20; '
           'select collecta.replay_undelivered(%L);', c.endpoint_id, c.endpoint_id)
  from concerned c
  cross join lateral (
    -- This is the condition of collecta.undelivered, but attempts are read one by one from the last one on, until there
    -- are enough. OFFSET and the scalar subqueries keep PostgreSQL from turning them into joins.
    select a.finished_at
    from (
      select a.* from collecta.delivery_attempts a
      where a.endpoint_id = c.endpoint_id and a.outcome = 'exhausted'
        and a.id >= collecta.attempt_id_at(now() - interval '7 days')
      order by a.id desc offset 0) a
    where (
        select true from collecta.delivery_attempts l
        where l.event_id = a.event_id and l.endpoint_id = a.endpoint_id and l.routed_at = a.routed_at
          and l.id > a.id and l.outcome in ('delivered', 'exhausted') limit 1) is null
      and (
        select true from collecta.delivery_queue q
        where q.event_id = a.event_id and q.endpoint_id = a.endpoint_id and q.replay_of is not null limit 1) is null
    limit 21) u
  where c.place <= 100
  group by c.endpoint_id
  union all
  select 'warning', 'deliveries were given up', min(c.endpoint_id) filter (where c.place = 101),
    format('%s further endpoints gave up deliveries in the last 7 days; of these, this one was the last.', count(*)),
    'select endpoint_id, count(*) from collecta.undelivered '
    'where id >= collecta.attempt_id_at(now() - interval ''7 days'') group by 1;'
  from concerned c where c.place > 100 having count(*) > 0;

  return query
  select 'warning', 'deliveries are lost again and again', q.endpoint_id,
    format('%s deliveries had their runner vanish 3 times in a row or more: it may be one of them that kills it.',
           count(*)),
    format('select event_id, losses, due_at from collecta.delivery_queue where endpoint_id = %L and losses > 2;',
           q.endpoint_id)
  from collecta.delivery_queue q where q.losses > 2 group by q.endpoint_id;

  return query
  select 'warning', 'no runner routes', 'outbox', format('The oldest change waits since %s.', o.captured_at),
    'collecta-webhooks run'
  from (select captured_at from collecta.outbox order by change_id limit 1) o
  where o.captured_at < now() - interval '1 minute';

  return query
  select 'warning', 'deliveries are late', e.endpoint_id, format('The first is due since %s.', q.due_at),
    'Are enough runners up? Is max_in_flight too low for what this endpoint takes?'
  from collecta.endpoints e
  cross join lateral (
    select q.due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id order by q.due_at limit 1
  ) q
  where e.state = 'active' and q.due_at < now() - interval '5 minutes';

  return query
  select 'warning', 'partition is kept', c.relname::text,
    'It is past settings.retention and still holds a queued or set aside event.',
    'See collecta.delivery_queue and collecta.unrouted, by routed_at.'
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent in ('collecta.events'::regclass, 'collecta.delivery_attempts'::regclass)
    and c.relname ~ '_[0-9]{8}$'
    and to_date(right(c.relname, 8), 'YYYYMMDD') + 2 < now() - (select s.retention from collecta.settings s);

  return query
  select 'info', 'changes were muted', m.module,
    format('%s statements, %s records since yesterday.', count(*), sum(m.records)),
    'select * from collecta.muted_changes order by captured_at desc;'
  from collecta.muted_changes m where m.captured_at > now() - interval '1 day' group by m.module;
end
$_$;


ALTER FUNCTION collecta.check_outbound() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_outbound(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_outbound() IS 'Returns the rows of collecta.health about routing and delivery.';


--
-- Name: check_shards(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.check_shards() RETURNS TABLE(severity text, problem text, subject text, detail text, hint text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  if to_regclass('pg_catalog.pg_dist_partition') is null then
    return;
  end if;
  return query
  select 'error', 'no shard is on this node', m.slug,
    format('%s is a distributed table, whose triggers never fire. Its shards are on: %s.', m.relation,
      collecta.shard_nodes(m.relation)),
    format('select collecta.detach_module(%L); %s -- on each of these nodes', m.slug,
      collecta.attach_shards_call(m.relation, m.slug))
  from collecta.modules m
  where collecta.is_distributed(m.relation) and not exists (select from collecta.module_members(m.relation));

  return query
  select 'error', 'shard cannot be found', m.slug,
    format('A shard of %s is placed on this node, and no table of that number is there: its changes are not captured.',
      m.relation),
    format('select * from pg_catalog.pg_dist_shard where logicalrelid = %L::regclass;', m.relation)
  from collecta.modules m
  where exists (select from collecta.placed_shards(m.relation) s where s is null);
end
$$;


ALTER FUNCTION collecta.check_shards() OWNER TO collecta_owner;

--
-- Name: FUNCTION check_shards(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.check_shards() IS 'Returns the rows of collecta.health about distributed tables.';


--
-- Name: claim_deliveries(integer, bigint, integer, text, integer, text, text[], boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.claim_deliveries(batch integer, batch_bytes bigint DEFAULT 8000000, per_endpoint integer DEFAULT 10000, environment text DEFAULT NULL::text, runner integer DEFAULT NULL::integer, cursor text DEFAULT NULL::text, except_endpoints text[] DEFAULT '{}'::text[], everything boolean DEFAULT false) RETURNS collecta.claim_result
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET lock_timeout TO '2s'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
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
  deliveries text;
  endpoint_ids text[];
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
  deliveries := routing.leased;
  endpoint_ids := routing.endpoint_ids;
  if whole or routing.waiting or deliveries is null
      or coalesce(began not between hints.choose_due - interval '50 ms' and hints.choose_due, true) then
    chosen := collecta.claim_due(hints, row(batch - coalesce(routing.leased_number, 0),
      batch_bytes - coalesce(routing.bytes, 0), per_endpoint, except_endpoints,
      case when whole then '{}' else hints.due_from end, began + lease, runner)::collecta.claim_room, everything,
      routing_works => routing.routed >= 0);
    hints := chosen.hints;
    deliveries := nullif(concat_ws(chr(30), deliveries, chosen.leased), '');
    endpoint_ids := endpoint_ids || chosen.endpoint_ids;
  end if;
  if deliveries is not null then
    endpoints := to_json(array(
      select json_build_object('endpoint_id', e.endpoint_id, 'url', e.url, 'headers', s.headers,
        'secrets', case when s.previous_until > began then array[s.previous_secret, s.secret] else array[s.secret] end,
        'begin_within_ms', (chosen.limits -> e.endpoint_id ->> 2)::int)
      from collecta.endpoints e
      join collecta.endpoint_secrets s on s.endpoint_id = e.endpoint_id
      where e.endpoint_id = any (endpoint_ids)));
  end if;

  found_some := coalesce(routing.routed > 0, false) or deliveries is not null;
  if hints.found_nothing and not found_some and not whole and trouble is null
      and began >= hints.whole_at + 4 * hints.whole_cost then
    -- For the second time nothing. Before it says so, it looks at the whole, for a fifth of the time at most. Not the
    -- first time, since a runner that sleeps between two changes of a busy writer makes the writer notify.
    hints.whole_at := null;
    return collecta.claim_deliveries(batch, batch_bytes, per_endpoint, environment, runner, hints::text,
      except_endpoints);
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
  if hints.unsettled_xid is null then
    hints.unsettled_change := coalesce(hints.from_change, 0);
    hints.unsettled_xid := pg_snapshot_xmax(pg_current_snapshot());
  end if;
  hints.oldest_xid := pg_snapshot_xmin(pg_current_snapshot());
  if routing.routed >= 0 then
    hints.in_order := routing.in_order;
  end if;
  if routing.awaited then
    hints.choose_due := null;
  end if;
  hints.found_nothing := not found_some;

  next := case
    when routing.more or chosen.cut or routing.leased_number >= batch or routing.bytes >= batch_bytes
      then 'now'
    when found_some then 'soon'
    when chosen.is_saturated then 'when_recorded'
    when whole and routing.routed >= 0 then 'sleep'
    else 'wait' end;
  if next = 'wait' or chosen.again_at is not null then
    wait_ms := greatest(1, least(ceil(extract(epoch from chosen.again_at - clock_timestamp()) * 1000),
      case when next <> 'wait' then null when trouble is not null then 1000 else 2 end));
  end if;
  return row(extract(epoch from began + lease) * 1000000, extract(epoch from lease) * 1000, deliveries,
    coalesce(endpoints, '[]'), coalesce(routing.routed, 0), next, wait_ms, coalesce(routing.reordering, false), trouble,
    hints::text)::collecta.claim_result;
end
$$;


ALTER FUNCTION collecta.claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean) IS 'For runners: routes a slice of the outbox, then claims up to batch deliveries that are due, of batch_bytes at most
(one at least). Answers one row, collecta.claim_result. endpoints is an array of objects; where a rate limits an
endpoint, begin_within_ms says to give its deliveries back if they cannot begin so soon. next: now; soon (something was
found); when_recorded (what is due waits for what is in flight); wait (wait_ms); sleep (all was looked at, nothing is
there). everything: do not trust the cursor to know where nothing is. Record each delivery with record_deliveries before
its lease has passed, or it is claimed again.';


--
-- Name: claim_due(collecta.claim_cursor, collecta.claim_room, boolean, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean) RETURNS collecta.due_deliveries
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_variable
declare
  present timestamptz;
  limits jsonb; -- by endpoint with a flow: how many may be in flight, and how many may begin
  chosen tid[];
  routed_from timestamptz;
  routed_to timestamptz;
  lapsed boolean; -- some of them have a lease that lapsed
  leases_ended boolean;
  endpoint_ids text[]; -- whose turn it is
  without_secret text[]; -- endpoints whose secret somebody deleted get nothing
  saturated text[]; -- endpoints that have as much in flight as they may
  leased_number int;
  found_due_from jsonb;
  result collecta.due_deliveries;
begin
  -- Lock first, then look in a new statement: a snapshot taken before the lock would not see the last claim.
  perform pg_advisory_xact_lock(1668246636, 3);
  -- After the lock, so that it includes what was routed above and is never before the last claim's.
  present := clock_timestamp();
  if everything or coalesce(present not between hints.mend_due - interval '1 s' and hints.mend_due, true) then
    perform collecta.mend_queue(present);
    hints.mend_due := present + interval '1 s';
    delete from collecta.routing_trouble t where routing_works;
    present := clock_timestamp();
  end if;
  if exists (select from collecta.endpoint_flow f where f.held_until > present or f.pace is not null
      or f.max_per_second is not null or f.learned_per_second is not null) then
    select l.limits, l.again_at into limits, result.again_at from collecta.flow_limits(present) l;
  end if;
  loop
    -- The window of an endpoint is read lazily, in the index's order; what comes after the last row taken is not read.
    select array_agg(c.row_at), min(c.routed_at), max(c.routed_at), bool_or(c.leased_until is not null),
      array_agg(c.endpoint_id) filter (where c.is_first),
      jsonb_object_agg(c.endpoint_id, c.first_due) filter (where c.is_first),
      array_agg(c.endpoint_id) filter (where c.place_in_turn >= c.in_flight),
      count(*) >= room.deliveries or coalesce(bool_or(c.bytes_so_far >= room.bytes), false)
    into chosen, routed_from, routed_to, lapsed, endpoint_ids, found_due_from, saturated, result.cut
    from (
      select c.*, sum(c.bytes) over in_all as bytes_so_far,
        lag(c.endpoint_id) over in_all is distinct from c.endpoint_id as is_first
      from (
        select t.endpoint_id, t.in_flight, c.*
        from (
          select e.endpoint_id, least(e.max_in_flight, (limits -> e.endpoint_id ->> 0)::int) as in_flight,
            (limits -> e.endpoint_id ->> 1)::int as slots
          from (
            (select e.endpoint_id, e.max_in_flight from collecta.endpoints e
             where e.endpoint_id > coalesce(hints.after_endpoint, '') and e.state = 'active' order by e.endpoint_id)
            union all
            (select e.endpoint_id, e.max_in_flight from collecta.endpoints e
             where e.endpoint_id <= hints.after_endpoint and e.state = 'active' order by e.endpoint_id)) e
          where e.endpoint_id <> all (room.except_endpoints)) t
        cross join lateral (
          select w.*
          from (
            select q.ctid as row_at, q.leased_until, q.routed_at, q.bytes, q.record_key, q.change_id, q.position,
              first_value(q.due_at) over in_turn as first_due, row_number() over in_turn as place_in_turn,
              sum(q.bytes) over in_turn as endpoint_bytes
            from collecta.delivery_queue q
            where q.endpoint_id = t.endpoint_id and q.due_at <= present
              and q.due_at >= coalesce((room.due_from ->> t.endpoint_id)::timestamptz, '-infinity')
            window in_turn as (order by q.due_at, q.change_id, q.position rows unbounded preceding)
            limit t.in_flight) w
          where (w.leased_until is null or w.leased_until < present)
            -- One endpoint's large bodies take half of the room at most.
            and w.endpoint_bytes - w.bytes <= room.bytes / 2
            -- Of an ordered record: the first one, and nothing while another is under way.
            and (w.record_key is null or not exists (
              select from collecta.delivery_queue o
              where o.endpoint_id = t.endpoint_id and o.record_key = w.record_key and o.ctid <> w.row_at
                and ((o.change_id, o.position) < (w.change_id, w.position) or o.leased_until >= present)))
          limit least(room.per_endpoint, t.slots)) c
        limit greatest(room.deliveries, 0)) c
      window in_all as (rows unbounded preceding)) c
    where c.bytes_so_far - c.bytes < room.bytes;
    exit when lapsed is not true or leases_ended;
    perform collecta.end_leases(chosen, present);
    leases_ended := true;
  end loop;

  if chosen is not null then
    select array_agg(c.endpoint_id) into without_secret
    from unnest(endpoint_ids) c (endpoint_id)
    where not exists (select from collecta.endpoint_secrets s where s.endpoint_id = c.endpoint_id);
    with taken as (
      -- By an array of places: one scan, and none for each row.
      update collecta.delivery_queue q
      set leased_until = room.leased_until, runner = room.runner
      where q.ctid = any (array(
        select c.ctid from collecta.delivery_queue c
        -- No index would be of use, but seem so to whoever plans on an empty table: hence the interval.
        where c.ctid = any (chosen) and c.leased_until is null and c.due_at + interval '0' <= present
          and (without_secret is null or c.endpoint_id <> all (without_secret))
        for update skip locked))
      returning q.delivery_id, q.endpoint_id, q.event_id, q.payload_role, q.routed_at, q.due_at, q.change_id,
        q.position, q.record_key is not null or coalesce(q.endpoint_id = any (saturated), false) as awaited
    )
    select string_agg(collecta.claimed_delivery(t.delivery_id, t.endpoint_id, t.event_id, t.awaited, e.body), chr(30)),
      array_agg(t.endpoint_id), bool_or(t.awaited), (select count(*) from taken)
    into result.leased, result.endpoint_ids, result.awaited, leased_number
    from (select * from taken order by due_at, change_id, position) t
    cross join lateral (
      select e.body from collecta.events e
      where e.event_id = t.event_id and e.payload_role = t.payload_role and e.routed_at = t.routed_at
        -- Known when the statement begins: of the partitions only these are opened.
        and e.routed_at between routed_from and routed_to
      -- For each by the key, whatever is known of the table's size when the plan is made.
      offset 0) e;
    if leased_number > coalesce(cardinality(result.endpoint_ids), 0) then
      perform collecta.set_aside_deliveries(array(
        select q.delivery_id from collecta.delivery_queue q
        where q.endpoint_id = any (endpoint_ids) and q.due_at <= present and q.leased_until = room.leased_until
          and not exists (select from collecta.events e where e.event_id = q.event_id
            and e.payload_role = q.payload_role and e.routed_at = q.routed_at)),
        'its event is gone: the partition was dropped');
    end if;
    if limits is not null and result.leased is not null then
      result.again_at := least(result.again_at, collecta.use_slots(present, result.endpoint_ids));
    end if;
    room.due_from := room.due_from || found_due_from;
    if octet_length(room.due_from::text) > 10000 then
      room.due_from := '{}';
    end if;
  end if;
  hints.due_from := room.due_from;
  hints.choose_due := case when result.awaited or result.cut or saturated is not null then null
    else present + interval '50 ms' end;
  hints.after_endpoint := case when result.cut then (
    select coalesce(max(c.id) filter (where c.id <= coalesce(hints.after_endpoint, '')), max(c.id))
    from (select id collate "C" as id from unnest(endpoint_ids) id) c) end;
  return row(result.leased, result.endpoint_ids, result.awaited, saturated is not null, result.cut, limits,
    result.again_at, hints)::collecta.due_deliveries;
end
$$;


ALTER FUNCTION collecta.claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean) IS 'Claims what is due in the queue: chooses, beginning with the endpoint after hints.after_endpoint, and leases it.';


--
-- Name: claimed_delivery(bigint, text, text, boolean, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select concat_ws(E'\x1f', delivery_id, endpoint_id, event_id, awaited, body)
$$;


ALTER FUNCTION collecta.claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text) OWNER TO collecta_owner;

--
-- Name: FUNCTION claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text) IS 'Returns a delivery as a claim does: its fields, joined by chr(31). awaited (t or f) says that another delivery waits until this one is recorded.';


--
-- Name: column_expression(text, oid, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.column_expression(value text, type_id oid, as_text boolean) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  type pg_catalog.pg_type;
  element pg_catalog.pg_type;
  -- concat calls the type's output function, which only a superuser can make, and no cast of an ordinary role.
  written text := 'concat(' || value || ')';
begin
  if type_id < 16384 or not as_text and collecta.type_kind(type_id) <> 'untrusted' then
    return value;
  end if;
  loop
    select t.* into type from pg_catalog.pg_type t where t.oid = type_id;
    exit when type.typtype is distinct from 'd';
    type_id := type.typbasetype;
  end loop;
  if type_id < 16384 then
    return value;
  elsif type.typcategory = 'A' and type.typelem <> 0 then
    select t.* into element from pg_catalog.pg_type t where t.oid = type.typelem;
    if element.typdelim = ',' then
      written := written || '::text[]';
    end if;
    if element.typtype = 'c' and not as_text then
      written := 'case when array_ndims(' || value || ') = 1 then array_to_json((select array_agg('
        || collecta.column_expression('"collecta elements".element', element.oid, false)
        || ') from (select unnest(' || value || ') as element) "collecta elements")) else to_json(' || written
        || ') end';
    end if;
  elsif type.typtype = 'c' and not as_text then
    select '(select coalesce("collecta fields".*) from (select ' || coalesce(string_agg(
        collecta.column_expression('(' || value || ').' || quote_ident(a.attname), a.atttypid, false)
          || ' as ' || quote_ident(a.attname), ', ' order by a.attnum), '') || ') "collecta fields")'
    into written
    from pg_catalog.pg_attribute a where a.attrelid = type.typrelid and a.attnum > 0 and not a.attisdropped;
  end if;
  -- num_nulls and not IS NULL, which is also true of a composite value whose fields are all null.
  return 'case when num_nulls(' || value || ') = 0 then ' || written || ' end';
end
$$;


ALTER FUNCTION collecta.column_expression(value text, type_id oid, as_text boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION column_expression(value text, type_id oid, as_text boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.column_expression(value text, type_id oid, as_text boolean) IS 'Returns an SQL expression that row_to_json converts as it would convert the column itself, but without running code of an ordinary role: values of untrusted types become text. With as_text, values of all types that are not built in become text.';


--
-- Name: column_name(oid, smallint); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.column_name(relation oid, number smallint) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select nullif(a.object_names[3], format('........pg.dropped.%s........', number))
  from pg_identify_object_as_address('pg_catalog.pg_class'::regclass, relation, number) a
$$;


ALTER FUNCTION collecta.column_name(relation oid, number smallint) OWNER TO collecta_owner;

--
-- Name: FUNCTION column_name(relation oid, number smallint); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.column_name(relation oid, number smallint) IS 'Returns the present name of a column; null if the column was dropped.';


--
-- Name: column_numbers(collecta.module_versions, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.column_numbers(module collecta.module_versions, names text[]) RETURNS smallint[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array(
    select (module.column_numbers ->> name)::smallint from unnest(names) name
    where module.column_numbers ? name and module.database = collecta.database_identity())
$$;


ALTER FUNCTION collecta.column_numbers(module collecta.module_versions, names text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION column_numbers(module collecta.module_versions, names text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.column_numbers(module collecta.module_versions, names text[]) IS 'Returns the attribute numbers that columns had when the module was attached, if they are valid in this database.';


--
-- Name: column_types(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.column_types(relation oid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- Dropped columns are counted, and have no type.
  select array(
    select a.atttypid from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0
    order by a.attnum)::text
$$;


ALTER FUNCTION collecta.column_types(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION column_types(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.column_types(relation oid) IS 'Returns the types of a table''s columns as text, for comparison.';


--
-- Name: compared_grants(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.compared_grants(exactly boolean) RETURNS TABLE(object text, kind text, id oid, schema_name name, object_name name, attribute name, grantee oid, privilege text, is_owner boolean, is_actual boolean, is_designed boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  with
  ours as (
    select n.oid, n.nspname, n.nspowner, n.nspacl
    from pg_catalog.pg_namespace n where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows')
  ),
  object (kind, id, schema_name, name, owner, acl, default_acl) as (
    select 'schema', n.oid, n.nspname, n.nspname, n.nspowner, n.nspacl, acldefault('n', n.nspowner)
    from ours n
    union all
    select 'relation', c.oid, ours.nspname, c.relname, c.relowner, c.relacl,
      acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)
    from ours join pg_catalog.pg_class c on c.relnamespace = ours.oid and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select 'function', p.oid, ours.nspname, p.proname, p.proowner, p.proacl, acldefault('f', p.proowner)
    from ours join pg_catalog.pg_proc p on p.pronamespace = ours.oid
    -- The thousands of generated functions are compared further only if their privileges are not these.
    where case ours.nspname
      when 'collecta_modules' then
        p.proacl is distinct from array[makeaclitem(p.proowner, p.proowner, 'EXECUTE', false)]
      when 'collecta_rows' then
        p.proacl is distinct from array[makeaclitem(p.proowner, p.proowner, 'EXECUTE', false),
          makeaclitem(to_regrole(quote_ident(collecta.role_name('collecta_capture'))), p.proowner, 'EXECUTE', false)]
      else true end
    union all
    select 'type', t.oid, ours.nspname, t.typname, t.typowner, t.typacl, acldefault('T', t.typowner)
    from ours join pg_catalog.pg_type t on t.typnamespace = ours.oid
    left join pg_catalog.pg_class c on c.oid = t.typrelid
    where t.typelem = 0 and coalesce(c.relkind, 'c') = 'c'
  ),
  actual as (
    select o.kind, o.id, ''::name as attribute, a.grantee, a.privilege_type as privilege, a.is_grantable as grantable
    from object o cross join lateral aclexplode(coalesce(o.acl, o.default_acl)) a
    union
    select o.kind, o.id, attribute.attname, a.grantee, a.privilege_type, a.is_grantable
    from object o
    join pg_catalog.pg_attribute attribute on attribute.attrelid = o.id and attribute.attacl is not null
    cross join lateral aclexplode(attribute.attacl) a
    where o.kind = 'relation'
  ),
  designed (kind, id, attribute, grantee, privilege, grantable) as (
    select o.kind, o.id, ''::name, a.grantee, a.privilege_type, a.is_grantable
    from object o cross join lateral aclexplode(o.acl) a
    where not exactly and a.grantee not in (0, o.owner) and not a.is_grantable
      and (o.kind, o.name, a.privilege_type) in (('schema', 'collecta', 'USAGE'), ('function', 'new_id', 'EXECUTE'))
    union
    select o.kind, o.id, ''::name, a.grantee, a.privilege_type, a.is_grantable
    from object o cross join lateral aclexplode(o.default_acl) a
    where a.grantee = o.owner
    union
    select o.kind, o.id, case d.kind when 'column' then split_part(d.object, '.', 2) else '' end::name, r.oid,
      d.privilege, false
    from collecta.designed_grants() d
    join pg_catalog.pg_roles r on r.rolname = d.grantee
    join object o on o.kind = case d.kind when 'column' then 'relation' else d.kind end
      and o.name = split_part(d.object, '.', 1)
    where r.oid <> o.owner
    union
    -- The generated functions that capture functions call by name.
    select o.kind, o.id, ''::name, r.oid, 'EXECUTE', false
    from object o join pg_catalog.pg_roles r on r.rolname = collecta.role_name('collecta_capture')
    where o.kind = 'function' and o.schema_name = 'collecta_rows' and r.oid <> o.owner
  ),
  compared as (
    select o.*, attribute, grantee, privilege, a.kind is not null as is_actual, d.kind is not null as is_designed,
      bool_or((a.kind is null) <> (d.kind is null)) over (partition by o.kind, o.id) as differs
    from actual a
    full join designed d using (kind, id, attribute, grantee, privilege, grantable)
    join object o using (kind, id)
  )
  -- Only these get a label, because the names of thousands of functions would cost more than the comparison.
  select case c.kind
      when 'schema' then format('schema %I', c.name)
      when 'relation' then c.id::regclass::text
      when 'function' then c.id::regprocedure::text
      when 'type' then format('type %s', c.id::regtype) end,
    c.kind, c.id, c.schema_name, c.name, c.attribute, c.grantee, c.privilege, c.grantee = c.owner, c.is_actual,
    c.is_designed
  from compared c
  where c.differs
$$;


ALTER FUNCTION collecta.compared_grants(exactly boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION compared_grants(exactly boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.compared_grants(exactly boolean) IS 'Returns the privileges on objects of collecta that roles have, or should have according to collecta.designed_grants(), of each object for which these differ.';


--
-- Name: context_json(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.context_json(context text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  -- octet_length does not decompress: a context of 200 MB costs nothing here.
  if octet_length(context) > 65536 then
    return '{"$truncated":true}';
  end if;
  return context::json::text;
exception when others then
  return to_json(context)::text;
end
$_$;


ALTER FUNCTION collecta.context_json(context text) OWNER TO collecta_owner;

--
-- Name: FUNCTION context_json(context text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.context_json(context text) IS 'Returns collecta.context as JSON: as it was set, or as a string if it is not JSON. A context of more than 64 kB is left out.';


--
-- Name: create_endpoint(text, text[], text[], text, integer, text, text, text, boolean, text, jsonb, interval, integer, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.create_endpoint(OUT endpoint_id text, url text, events text[], modules text[] DEFAULT NULL::text[], INOUT secret text DEFAULT NULL::text, retry_max integer DEFAULT 5, name text DEFAULT NULL::text, filter text DEFAULT NULL::text, scope text DEFAULT NULL::text, ordered boolean DEFAULT false, payload_role text DEFAULT NULL::text, headers jsonb DEFAULT '{}'::jsonb, retry_base interval DEFAULT '00:01:00'::interval, max_in_flight integer DEFAULT 50, max_per_second integer DEFAULT NULL::integer) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint(create_endpoint.url, create_endpoint.events, create_endpoint.modules,
    create_endpoint.secret, create_endpoint.filter, create_endpoint.payload_role, create_endpoint.headers);
  perform collecta.check_endpoint_limits(create_endpoint.retry_max, create_endpoint.retry_base,
    create_endpoint.max_in_flight, create_endpoint.max_per_second);
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


ALTER FUNCTION collecta.create_endpoint(OUT endpoint_id text, url text, events text[], modules text[], INOUT secret text, retry_max integer, name text, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, max_per_second integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION create_endpoint(OUT endpoint_id text, url text, events text[], modules text[], INOUT secret text, retry_max integer, name text, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, max_per_second integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.create_endpoint(OUT endpoint_id text, url text, events text[], modules text[], INOUT secret text, retry_max integer, name text, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, max_per_second integer) IS 'Creates a destination. Returns its id and its secret, which only this function and rotate_secret show. If no secret is given, one is generated, or the present one stays. events: record_created, record_updated, record_deleted, status_change, custom_data_updated. modules: slugs; null means all modules, future ones included. name makes the call idempotent: if an endpoint of that name exists, all its options are replaced. An option that is not given gets its default, so without scope and filter it gets everything; update_endpoint changes single options. filter: an SQL/JSON path predicate over the payload, e.g. $.record.quantity > 10. headers: extra request headers; readers of collecta.endpoints see those that may carry credentials only masked. retry_base: the wait after the first failure, doubled after each further one. max_in_flight: most deliveries at once. max_per_second: most requests in any second (null: no limit). Both limits hold over all runners. The hints of the errors CW010 to CW016 say what to do.';


--
-- Name: create_inbound_endpoint(text, jsonb, text[], text, text, text, text, collecta.signature_rule, integer, integer, text[], boolean, boolean, integer, interval, name); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[] DEFAULT '{}'::text[], INOUT secret text DEFAULT NULL::text, sender text DEFAULT NULL::text, each text DEFAULT NULL::text, match_where text DEFAULT NULL::text, require_signature collecta.signature_rule DEFAULT NULL::collecta.signature_rule, rate_limit_per_minute integer DEFAULT 60, max_body_bytes integer DEFAULT 1048576, events text[] DEFAULT NULL::text[], keep_ignored boolean DEFAULT true, each_alone boolean DEFAULT false, max_elements integer DEFAULT 1000, digest_window interval DEFAULT NULL::interval, writer name DEFAULT 'collecta_writer'::name) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
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


ALTER FUNCTION collecta.create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[], INOUT secret text, sender text, each text, match_where text, require_signature collecta.signature_rule, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval, writer name) OWNER TO collecta_owner;

--
-- Name: FUNCTION create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[], INOUT secret text, sender text, each text, match_where text, require_signature collecta.signature_rule, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval, writer name); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[], INOUT secret text, sender text, each text, match_where text, require_signature collecta.signature_rule, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval, writer name) IS 'Makes a URL whose payloads become records of a module: returns its id, its path (with the token, which is shown here only) and its secret. mapping: {"$.payload.sku": "product_code"} or {"product_code": {"path": "$.payload.sku", "as": "empty_as_null", "default": ..., "required": true}}, {"source": {"constant": "erp"}}, {"custom_data": {"whole": true}}. match_columns: a record that equals the payload in these is updated, else one is made; match_where limits which. sender: a row of inbound_senders, how requests are signed and numbered. each: the array whose elements are the records. A secret is always enforced; require_signature => true generates one, ''standard'' asks for a signature over id and time. Needs the table''s ownership. Errors CW051 to CW057 say what to do.';


--
-- Name: database_identity(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.database_identity() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select control.system_identifier || '/' || d.oid
    || coalesce('/' || nullif(current_setting('neon.timeline_id', true), ''), '')
  from pg_control_system() control, pg_database d
  where d.datname = current_database()
$$;


ALTER FUNCTION collecta.database_identity() OWNER TO collecta_owner;

--
-- Name: FUNCTION database_identity(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.database_identity() IS 'Returns what distinguishes this database from a restored or cloned copy: the server''s system identifier, the database''s oid, and on Neon the timeline, which differs between a branch and its parent.';


--
-- Name: delete_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.delete_endpoint(endpoint_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(delete_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'deleted', name = null where e.endpoint_id = delete_endpoint.endpoint_id;
  perform collecta.subscribe_endpoint(delete_endpoint.endpoint_id);
  delete from collecta.endpoint_secrets s where s.endpoint_id = delete_endpoint.endpoint_id;
  delete from collecta.unrouted u where u.endpoint_id = delete_endpoint.endpoint_id;
  -- Deliveries in flight finish and are recorded. If their lease lapses instead, maintain() deletes them.
  delete from collecta.delivery_queue q
  where q.endpoint_id = delete_endpoint.endpoint_id and (q.leased_until is null or q.leased_until < now());
end
$$;


ALTER FUNCTION collecta.delete_endpoint(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION delete_endpoint(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.delete_endpoint(endpoint_id text) IS 'Deletes an endpoint: no more deliveries are queued or sent to it, and its secret is deleted. Its row and its history stay.';


--
-- Name: delete_inbound_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.delete_inbound_endpoint(inbound_endpoint_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  endpoint record;
  number constant int := collecta.set_inbound_state(inbound_endpoint_id, 'deleted');
begin
  select c.oid::regclass as relation into endpoint
  from collecta.inbound_endpoints e join pg_catalog.pg_class c on c.oid = e.relation
  where e.inbound_endpoint_id = delete_inbound_endpoint.inbound_endpoint_id;
  if found then
    perform collecta.grant_inbound(endpoint.relation, number);
  end if;
  perform collecta.forget_inbound_endpoint(inbound_endpoint_id, number);
end
$$;


ALTER FUNCTION collecta.delete_inbound_endpoint(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION delete_inbound_endpoint(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.delete_inbound_endpoint(inbound_endpoint_id text) IS 'Ends an inbound endpoint: its URL, secret, functions and grants are gone; its row and its requests stay. Needs the table''s ownership, for the grants.';


--
-- Name: designed_grants(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.designed_grants() RETURNS TABLE(grantee text, privilege text, kind text, object text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select collecta.role_name(designed.grantee), designed.privilege, designed.kind, named.object
  from (values
    ('collecta_reader', 'USAGE', 'schema', 'collecta'),
    ('collecta_operator', 'USAGE', 'schema', 'collecta'),
    ('collecta_capture', 'USAGE', 'schema', 'collecta'),
    -- It has no USAGE on collecta_modules; schema.sql says why.
    ('collecta_capture', 'USAGE', 'schema', 'collecta_rows'),
    ('collecta_writer', 'USAGE', 'schema', 'collecta'),
    ('collecta_viewer', 'USAGE', 'schema', 'collecta'),
    ('collecta_dispatcher', 'USAGE', 'schema', 'collecta'),
    ('collecta_inbound', 'USAGE', 'schema', 'collecta'),

    ('collecta_reader', 'SELECT', 'relation',
     'modules module_versions endpoints subscriptions events unrouted muted_changes
      settings installation migrations webhook_deliveries waiting_changes health row_secured_modules
      inbound_senders inbound_endpoints inbound_requests inbound_refusals inbound_budgets
      undelivered delivery_rollup observation operator_actions secret_overlaps alerts'),
    ('collecta_reader', 'SELECT', 'relation', 'endpoint_flow runners reorderings routing_trouble'),
    -- Columns that say something about a record or a receiver's answer are left out, because row security may hide it
    -- from the reader. collecta.webhook_deliveries shows it to those who may see it.
    ('collecta_reader', 'SELECT', 'column',
     'delivery_queue.delivery_id delivery_queue.change_id delivery_queue.due_at delivery_queue.leased_until
      delivery_queue.routed_at delivery_queue.held_since delivery_queue.position delivery_queue.bytes
      delivery_queue.attempt delivery_queue.losses delivery_queue.runner delivery_queue.endpoint_id
      delivery_queue.event_id delivery_queue.payload_role delivery_queue.replay_of'),
    ('collecta_reader', 'SELECT', 'column',
     'delivery_attempts.id delivery_attempts.event_id delivery_attempts.payload_role delivery_attempts.routed_at
      delivery_attempts.endpoint_id delivery_attempts.attempt delivery_attempts.outcome delivery_attempts.url
      delivery_attempts.request_headers delivery_attempts.response_status delivery_attempts.started_at
      delivery_attempts.finished_at delivery_attempts.lookup_ms delivery_attempts.connect_ms
      delivery_attempts.first_byte_ms delivery_attempts.total_ms delivery_attempts.next_attempt_at
      delivery_attempts.replay_of'),
    ('collecta_viewer', 'SELECT', 'relation',
     'delivery_attempts events endpoints delivery_queue row_secured_modules'),
    ('collecta_reader', 'SELECT', 'relation', 'outbox_change_id_seq'),
    ('collecta_capture', 'INSERT', 'relation', 'outbox'),
    ('collecta_capture', 'SELECT', 'relation', 'settings'),
    ('collecta_dispatcher', 'SELECT', 'relation', 'settings migrations'),
    ('collecta_inbound', 'SELECT', 'relation', 'migrations'),

    ('collecta_reader', 'EXECUTE', 'function',
     'check_health attempt_id_at body_contains alert_events is_walled visible_scopes is_in_scope'),
    ('collecta_viewer', 'EXECUTE', 'function', 'is_walled visible_scopes is_in_scope'),
    ('collecta_operator', 'EXECUTE', 'function',
     'pause_endpoint resume_endpoint replay_delivery replay_undelivered send_test_event route_again new_id note_action
      pause_inbound_endpoint resume_inbound_endpoint retry_inbound test_inbound_mapping'),
    ('collecta_capture', 'EXECUTE', 'function',
     'pick_columns mask_escapes unmask_escapes omitted_columns relations_to_capture capture_statement '
     'writer_timed_out pin_output_settings pinned_settings'),
    ('collecta_dispatcher', 'EXECUTE', 'function',
     'hold_lifeline claim_deliveries record_deliveries record_outcome release_deliveries first_changes route_change
      put_module_in_order
      set_aside_change first_deliveries read_delivery set_aside_deliveries
      maintain wake_runner encodable_characters check_installation sealing_keys'),
    ('collecta_dispatcher', 'EXECUTE', 'function', 'observe next_due_in_ms'),
    ('collecta_dispatcher', 'EXECUTE', 'function', 'read_figures'),
    ('collecta_reader', 'EXECUTE', 'function', 'read_figures'),
    ('collecta_inbound', 'EXECUTE', 'function',
     'read_figures find_inbound_endpoint receive_inbound next_inbound_retries maintain_inbound
      check_installation sealing_keys'),
    -- The inserting role evaluates a column default such as collecta.new_id('rec').
    ('collecta_writer', 'EXECUTE', 'function', 'new_id is_inbound_shape')
  ) designed (grantee, privilege, kind, objects)
  cross join lateral regexp_split_to_table(designed.objects, '\s+' collate "C") named (object)
  union all
  -- One for each inbound endpoint.
  select collecta.role_name('collecta_inbound'), 'EXECUTE', 'function', p.proname::text
  from pg_catalog.pg_proc p
  where p.pronamespace = 'collecta'::regnamespace and p.proname ~ '^accept_inbound_[0-9]+$' collate "C"
$_$;


ALTER FUNCTION collecta.designed_grants() OWNER TO collecta_owner;

--
-- Name: FUNCTION designed_grants(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.designed_grants() IS 'Returns the privileges that roles other than the owners have on the objects of collecta. The names of the objects are without the schema.';


--
-- Name: detach_module(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.detach_module(slug text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  module collecta.modules;
  standing record;
  before constant jsonb := collecta.enter_citus();
begin
  select * into module from collecta.modules m where m.slug = detach_module.slug for update;
  if not found then
    perform collecta.refuse_slug(slug);
  end if;
  for standing in
    select t.tgname, t.tgrelid::regclass as relation from pg_catalog.pg_trigger t
    where t.tgfoid in (
      select to_regproc(format('collecta_modules.capture_%s_%s', module.module_id, task))::oid
      from unnest(array['insert', 'update', 'delete', 'truncate']) task)
  loop
    execute format('drop trigger %I on %s', standing.tgname, standing.relation);
  end loop;
  perform collecta.forget_module(module.module_id);
  perform collecta.leave_citus(before);
end
$$;


ALTER FUNCTION collecta.detach_module(slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION detach_module(slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.detach_module(slug text) IS 'Drops the triggers on a module''s table, and deletes the module. The caller must own the table. Changes that were captured before are still routed, and the history stays.';


--
-- Name: differing_grants(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.differing_grants(exactly boolean DEFAULT false) RETURNS TABLE(object text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
  select distinct c.object from collecta.compared_grants(exactly) c
$$;


ALTER FUNCTION collecta.differing_grants(exactly boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION differing_grants(exactly boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.differing_grants(exactly boolean) IS 'Returns the objects of collecta whose privileges differ from collecta.designed_grants(). restore_grants() repairs them.';


--
-- Name: disable_copy(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.disable_copy(physical_copy boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
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


ALTER FUNCTION collecta.disable_copy(physical_copy boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION disable_copy(physical_copy boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.disable_copy(physical_copy boolean) IS 'Makes this database a copy that never delivers, for example a test database. From now on it captures no changes and no delivery is claimed. The queue and the outbox are emptied; endpoints and history stay. resume_after_restore() makes it deliver again.';


--
-- Name: earlier_inbound(text, text, text, boolean, interval, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
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


ALTER FUNCTION collecta.earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json) OWNER TO collecta_owner;

--
-- Name: FUNCTION earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json) IS 'The request that came before with the same key, or within the window with the same body. same is false where the key came with other JSON and body is not null.';


--
-- Name: element_type(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.element_type(type_id oid) RETURNS oid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  type pg_catalog.pg_type;
begin
  loop
    select t.* into type from pg_catalog.pg_type t where t.oid = type_id;
    if type.typtype = 'd' then
      type_id := type.typbasetype;
    elsif type.typcategory = 'A' and type.typelem <> 0 then
      type_id := type.typelem;
    else
      return type.oid;
    end if;
  end loop;
end
$$;


ALTER FUNCTION collecta.element_type(type_id oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION element_type(type_id oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.element_type(type_id oid) IS 'Returns the type that a type is a domain over or an array of, at any depth.';


--
-- Name: encodable_characters(bytea); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.encodable_characters(characters bytea) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  byte_position int := 1;
  size int;
  encodable text := '';
begin
  if getdatabaseencoding() in ('UTF8', 'SQL_ASCII') then
    return null;
  end if;
  while byte_position <= length(characters) loop
    size := case
      when get_byte(characters, byte_position - 1) >= 240 then 4
      when get_byte(characters, byte_position - 1) >= 224 then 3
      else 2
    end;
    begin
      encodable := encodable || convert_from(substring(characters from byte_position for size), 'UTF8');
    exception when untranslatable_character or character_not_in_repertoire then
      null;
    end;
    byte_position := byte_position + size;
  end loop;
  return encodable;
end
$$;


ALTER FUNCTION collecta.encodable_characters(characters bytea) OWNER TO collecta_owner;

--
-- Name: FUNCTION encodable_characters(characters bytea); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.encodable_characters(characters bytea) IS 'Returns those of the characters, given in UTF-8 and all of them above ASCII, that the database''s encoding has; null if it has all of them. The runner escapes the others before it records an answer.';


--
-- Name: end_leases(tid[], timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.end_leases(candidates tid[], present timestamp with time zone) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  with lapsed as (
    update collecta.delivery_queue q
    set leased_until = null, losses = q.losses + 1,
      -- A delivery that is lost again and again may be what kills its runners. After the second loss it waits for 10 s,
      -- then twice as long each time, up to an hour.
      due_at = case when q.losses = 0 then q.due_at
        else present + least(interval '5 s' * pow(2, least(q.losses, 20)), interval '1 hour') end
    from (
      select c.ctid as row_at, c.leased_until from collecta.delivery_queue c
      where c.ctid = any (candidates) and c.leased_until < present
      for update skip locked) l
    where q.ctid = l.row_at
    returning q.*, l.leased_until as lease_ended
  )
  insert into collecta.delivery_attempts (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url,
    error, started_at, finished_at, next_attempt_at, replay_of)
  select collecta.new_id('dlv'), l.event_id, l.payload_role, l.routed_at, l.endpoint_id, l.attempt + 1, 'lost',
    coalesce(e.url, ''), 'the runner vanished before the result was recorded; this is no attempt',
    l.lease_ended - s.lease, l.lease_ended, greatest(l.due_at, present), l.replay_of
  from lapsed l
  cross join collecta.settings s
  left join collecta.endpoints e on e.endpoint_id = l.endpoint_id
  -- If somebody dropped the partition of a day, the deliveries of other days must go on.
  where exists (select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'collecta.delivery_attempts'::regclass
      and c.relname = to_char(l.routed_at at time zone 'UTC', '"delivery_attempts_"YYYYMMDD'))
$$;


ALTER FUNCTION collecta.end_leases(candidates tid[], present timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION end_leases(candidates tid[], present timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.end_leases(candidates tid[], present timestamp with time zone) IS 'Ends the lapsed leases of these deliveries. The history gets an attempt with the outcome lost, which does not count, and the delivery may be claimed again.';


--
-- Name: enter_citus(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.enter_citus() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  before constant jsonb := (
    select jsonb_object_agg(name, current_setting(name))
    from unnest(array['citus.enable_ddl_propagation', 'citus.override_table_visibility',
      'citus.enable_manual_changes_to_shards']) name
    where current_setting(name, true) is not null);
begin
  if before is not null then
    perform collecta.leave_citus(before || jsonb '{"citus.enable_ddl_propagation": "off",
      "citus.override_table_visibility": "off", "citus.enable_manual_changes_to_shards": "on"}');
  end if;
  return before;
end
$$;


ALTER FUNCTION collecta.enter_citus() OWNER TO collecta_owner;

--
-- Name: FUNCTION enter_citus(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.enter_citus() IS 'Makes DDL stay on this node and shards visible for the rest of the transaction. Returns the previous settings; null without Citus.';


--
-- Name: equality_of(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.equality_of(type_id oid, OUT operator text, OUT operand_cast text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  base pg_catalog.pg_type;
  operand pg_catalog.pg_type;
  parts oid[] := '{}'::oid[];
  part oid;
begin
  select t.* into base from pg_catalog.pg_type t where t.oid = type_id;
  while base.typtype = 'd' loop
    select t.* into base from pg_catalog.pg_type t where t.oid = base.typbasetype;
  end loop;
  -- An array or a row can be compared only if all its parts can.
  if base.typcategory = 'A' then
    parts := array[base.typelem];
  elsif base.typtype = 'c' then
    parts := array(select a.atttypid from pg_catalog.pg_attribute a
                   where a.attrelid = base.typrelid and a.attnum > 0 and not a.attisdropped);
  end if;
  foreach part in array parts loop
    if (select e.operator from collecta.equality_of(part) e) is null then
      return;
    end if;
  end loop;
  select format('operator(%I.%s)', n.nspname, o.oprname), c.opcintype into operator, operand.oid
  from (
    select base.oid as type, 1 as preference
    union all
    select case when base.typcategory = 'A' then 'anyarray'::regtype
      when base.typtype = 'e' then 'anyenum'::regtype when base.typtype = 'c' then 'record'::regtype
      when base.typtype = 'r' then 'anyrange'::regtype when base.typtype = 'm' then 'anymultirange'::regtype end, 2
    union all
    select k.casttarget, 3 from pg_catalog.pg_cast k
    where k.castsource = base.oid and k.castmethod = 'b' and k.castcontext = 'i') candidate
  join pg_catalog.pg_opclass c on c.opcintype = candidate.type and c.opcdefault
  join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
  join pg_catalog.pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = c.opcintype
    and a.amoprighttype = c.opcintype and a.amopstrategy = case m.amname when 'btree' then 3 else 1 end
  join pg_catalog.pg_operator o on o.oid = a.amopopr
  join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
  order by candidate.preference, m.amname
  limit 1;
  select t.* into operand from pg_catalog.pg_type t where t.oid = operand.oid;
  operand_cast := case when operand.typtype = 'p' or operand.oid = type_id then ''
    else '::' || format_type(operand.oid, null) end;
end
$$;


ALTER FUNCTION collecta.equality_of(type_id oid, OUT operator text, OUT operand_cast text) OWNER TO collecta_owner;

--
-- Name: FUNCTION equality_of(type_id oid, OUT operator text, OUT operand_cast text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.equality_of(type_id oid, OUT operator text, OUT operand_cast text) IS 'The equality operator of a type''s default btree or hash operator class, as SQL, and the cast that its operands need. Null where the type has none.';


--
-- Name: event_body(text, text, bigint, timestamp with time zone, text, text, text, text, text, text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select '{"id":"' || event_id || '","event":"' || event || '","sequence":' || sequence
    || ',"occurred_at":"' || to_char(captured_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || '","module":"' || module
    || '","record_id":' || coalesce(record_id, 'null')
    || case when event = 'status_change' then ',"from":' || status_from || ',"to":' || status_to else '' end
    || ',"record":' || record
    || case when previous is not null then ',"previous":' || previous else '' end
    || extras || '}'
$$;


ALTER FUNCTION collecta.event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text) OWNER TO collecta_owner;

--
-- Name: FUNCTION event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text) IS 'Returns a payload as text. record_id, status_from, status_to, record and previous are JSON already. extras is what event_extras returns, or empty.';


--
-- Name: outbox; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.outbox (
    change_id bigint NOT NULL,
    version integer NOT NULL,
    operation collecta.operation NOT NULL,
    old json,
    new json,
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    trigger_depth integer DEFAULT pg_trigger_depth() NOT NULL,
    captured_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    context text DEFAULT current_setting('collecta.context'::text, true) COLLATE pg_catalog."C",
    traceparent text DEFAULT current_setting('collecta.traceparent'::text, true) COLLATE pg_catalog."C"
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', autovacuum_vacuum_insert_threshold='-1', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='20000');


ALTER TABLE collecta.outbox OWNER TO collecta_owner;

--
-- Name: TABLE outbox; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.outbox IS 'Captured row changes that are not routed yet. They are written in the users own transaction and deleted when they are routed, so the table is usually almost empty.';


--
-- Name: COLUMN outbox.change_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.change_id IS 'The order of routing, and the sequence of the payload. It is even. If a key changed, the odd number after it is that of the creation.';


--
-- Name: COLUMN outbox.version; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.version IS 'The row of collecta.module_versions under which it was captured.';


--
-- Name: COLUMN outbox.operation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.operation IS 'I insert, U update, D delete, T truncate (new holds the count), M muted (new holds operation and count).';


--
-- Name: COLUMN outbox.old; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.old IS 'The row before the change, as json and not jsonb, so that no value can fail the users statement. "$truncated" marks a row of which only key, scope and status were captured.';


--
-- Name: COLUMN outbox.trigger_depth; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.trigger_depth IS 'If it is above 1, the change was made by a trigger and captured before the statement that fired it. Routing puts it in order.';


--
-- Name: COLUMN outbox.captured_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.captured_at IS 'The clock when it was captured. All rows of one update of several rows have the same time.';


--
-- Name: COLUMN outbox.context; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.context IS 'collecta.context of the transaction. An empty text if only an earlier transaction of the session has set it.';


--
-- Name: COLUMN outbox.traceparent; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.outbox.traceparent IS 'collecta.traceparent of the transaction. It is put into the context when the change is routed.';


--
-- Name: event_body_for_role(text, text, text, collecta.outbox, collecta.change_reading, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
declare
  module collecta.module_versions;
  visible text[]; -- columns; none if the table or the role no longer exists
  record text := collecta.event_record(change.operation, change.old, change.new, reading.truncated);
begin
  select * into module from collecta.module_versions v where v.version = reading.read_by;
  select coalesce(array_agg(a.attname::text), '{}') into visible
  from pg_catalog.pg_attribute a
  where a.attrelid = module.relation and a.attnum > 0 and not a.attisdropped
    and has_column_privilege(to_regrole(quote_ident(payload_role))::oid, a.attrelid, a.attnum, 'select');
  if not coalesce(case event
      when 'status_change' then module.status_column = any (visible)
      when 'custom_data_updated' then module.custom_data_column = any (visible)
      when 'record_updated' then reading.truncated or exists (
        select from json_each(collecta.mask_escapes(reading.previous::json)) p
        where p.key = any (visible) and p.key <> all (module.ignore_columns))
      else true end, false) then
    return null;
  end if;
  return collecta.event_body(event_id, event, change.change_id, change.captured_at, reading.slug,
    case when module.key_columns <@ visible then to_json(reading.record_id)::text end, reading.status_from,
    reading.status_to,
    case when record = 'null' then record else collecta.pick_columns(record::json, visible, true)::text end,
    collecta.pick_columns(reading.previous::json, visible, true)::text, extras);
end
$$;


ALTER FUNCTION collecta.event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text) OWNER TO collecta_owner;

--
-- Name: FUNCTION event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text) IS 'Returns a payload with the columns that a payload_role may select. Null if none of the changed columns is among them: then there is no event for that role.';


--
-- Name: event_extras(collecta.outbox, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.event_extras(change collecta.outbox, truncated boolean) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return coalesce(',"context":' || collecta.context_json(collecta.captured_context(change.context, change.traceparent)),
      '')
    || coalesce(',"count":' || case when change.operation = 'T' then change.new ->> 'count' end, '')
    || case when truncated then ',"truncated":true' else '' end;
end
$$;


ALTER FUNCTION collecta.event_extras(change collecta.outbox, truncated boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION event_extras(change collecta.outbox, truncated boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.event_extras(change collecta.outbox, truncated boolean) IS 'Returns the end of a payload: the writer''s context, how many rows a TRUNCATE deleted, and that columns are missing.';


--
-- Name: event_id(bigint, collecta.operation, bigint, xid8, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  -- The first 64 bits are milliseconds, the version 7 and the rest of the microseconds. The others are the variant, the
  -- change, the kind of event and a hash.
  select 'evt_' || lpad(to_hex((captured_us / 1000 << 16) + 28672 + captured_us % 1000 * 4096 / 1000), 16, '0')
    || to_hex((-8::bigint << 60) + ((change_id & 268435455) << 32)
      + ((case operation when 'U' then number when 'I' then 4 else 5 end)::bigint << 28)
      + (hashint8extended(transaction_id::text::bigint, change_id # captured_us) & 268435455))
$$;


ALTER FUNCTION collecta.event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer) IS 'Returns the id of an event of a change: number 1 is record_updated, 2 status_change, 3 custom_data_updated.
captured_us: when the change was captured, in microseconds since 1970.';


--
-- Name: event_record(collecta.operation, json, json, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.event_record(operation collecta.operation, old json, new json, truncated boolean) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
  select case
    when operation = 'T' then 'null'
    when truncated then collecta.pick_columns(coalesce(new, old), '{$truncated,$custom_data_changed}', false)::text
    else coalesce(new, old)::text end
$_$;


ALTER FUNCTION collecta.event_record(operation collecta.operation, old json, new json, truncated boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION event_record(operation collecta.operation, old json, new json, truncated boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.event_record(operation collecta.operation, old json, new json, truncated boolean) IS 'Returns the record of a payload as JSON.';


--
-- Name: fill_template(text, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.fill_template(template text, parts jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select string_agg(case when place % 2 = 1 then piece else parts ->> piece end, '' order by place)
  from unnest(string_to_array(template, '@')) with ordinality p (piece, place)
$$;


ALTER FUNCTION collecta.fill_template(template text, parts jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION fill_template(template text, parts jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.fill_template(template text, parts jsonb) IS 'Replaces each @name@ in a template with the member of parts of that name. It does so in one pass, so an @name@ inside a part is not replaced.';


--
-- Name: find_inbound_endpoint(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.find_inbound_endpoint(slug text, token_hash text) RETURNS json
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_variable
begin
  -- A sender must not take a copy of the database for the original. disable_copy() says that it is a test database.
  if not exists (
    select from collecta.installation i where i.identity = collecta.database_identity() or not i.delivers)
  then
    raise exception using errcode = 'CW040', message = 'this database is a copy: collecta was installed in another one',
      detail = 'Inbound requests are refused with 503 until it is known what the copy is for.',
      hint = 'If this database is to deliver now: select collecta.resume_after_restore(); '
             'if it never shall: select collecta.disable_copy();';
  end if;
  return (select json_build_object(
    'id', e.inbound_endpoint_id, 'functionNumber', e.function_number,
    'paths', (select json_object_agg(f.column_name, f.path) from collecta.read_inbound_mapping(e.mapping) f),
    'secrets', array_remove(array[s.secret, case when s.previous_secret_until > now() then s.previous_secret end],
      null),
    'requireSignature', e.require_signature, 'maxBodyBytes', e.max_body_bytes, 'rateLimit', e.rate_limit_per_minute,
    'isBatch', e.each is not null, 'eachAlone', e.each_alone, 'events', e.events, 'grouped', e.grouped,
    'digestSeconds', extract(epoch from e.digest_window),
    'sender', json_build_object('signatures', k.signatures, 'ids', k.ids, 'event', k.event, 'ignored', k.ignored_events,
      'handshakes', k.handshakes, 'contentTypes', k.content_types, 'formField', k.form_field))
  from collecta.inbound_secrets s
  join collecta.inbound_endpoints e on e.inbound_endpoint_id = s.inbound_endpoint_id and e.state = 'active'
  join collecta.inbound_senders k on k.sender = e.sender
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  where e.module = find_inbound_endpoint.slug
    and (s.token_hash = find_inbound_endpoint.token_hash
      or s.previous_token_hash = find_inbound_endpoint.token_hash and s.previous_token_until > now()));
end
$$;


ALTER FUNCTION collecta.find_inbound_endpoint(slug text, token_hash text) OWNER TO collecta_owner;

--
-- Name: FUNCTION find_inbound_endpoint(slug text, token_hash text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.find_inbound_endpoint(slug text, token_hash text) IS 'For the receiving process: returns the active endpoint with a slug and the SHA-256 of a token, or null. Both take the same work. Raises CW040 if this database is a copy and nobody has said what it is for.';


--
-- Name: first_changes(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.first_changes(most integer) RETURNS bigint[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array(
    select o.change_id from collecta.outbox o
    where o.version <> all (array(
      select v.version from collecta.reorderings r
      join collecta.module_versions v on v.module_id = r.module_id
      where r.ended_in is null))
    order by o.change_id limit most)
$$;


ALTER FUNCTION collecta.first_changes(most integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION first_changes(most integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.first_changes(most integer) IS 'For a runner whose claim failed: returns the numbers of the changes that are routed next, without reading what they hold.';


--
-- Name: first_deliveries(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.first_deliveries(most integer) RETURNS bigint[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array(
    select q.delivery_id from collecta.delivery_queue q
    where q.due_at <= clock_timestamp() and (q.leased_until is null or q.leased_until < clock_timestamp())
    order by q.due_at limit most)
$$;


ALTER FUNCTION collecta.first_deliveries(most integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION first_deliveries(most integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.first_deliveries(most integer) IS 'For a runner whose claim failed: returns the numbers of deliveries that are due, without reading their events.';


--
-- Name: fit_inbound_budget(text, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.fit_inbound_budget(inbound_endpoint_id text, rate_limit integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
#variable_conflict use_column
declare
  taken timestamptz[];
begin
  insert into collecta.inbound_budgets (inbound_endpoint_id, slot)
  select fit_inbound_budget.inbound_endpoint_id, s
  from generate_series(1 + coalesce((select max(b.slot) from collecta.inbound_budgets b
    where b.inbound_endpoint_id = fit_inbound_budget.inbound_endpoint_id), 0), rate_limit) s;
  with gone as (
    delete from collecta.inbound_budgets b
    where b.inbound_endpoint_id = fit_inbound_budget.inbound_endpoint_id and b.slot > rate_limit
    returning b.taken_at)
  select array_agg(g.taken_at order by g.taken_at desc) into taken
  from gone g where g.taken_at > clock_timestamp() - interval '60 s';
  update collecta.inbound_budgets b set taken_at = taken[f.place]
  from (
    select free.slot, row_number() over (order by free.taken_at, free.slot) as place
    from (
      select o.slot, o.taken_at from collecta.inbound_budgets o
      where o.inbound_endpoint_id = fit_inbound_budget.inbound_endpoint_id
      order by o.taken_at, o.slot limit cardinality(taken)
      for update) free) f
  where taken is not null
    and b.inbound_endpoint_id = fit_inbound_budget.inbound_endpoint_id and b.slot = f.slot
    and b.taken_at < taken[f.place];
end
$$;


ALTER FUNCTION collecta.fit_inbound_budget(inbound_endpoint_id text, rate_limit integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION fit_inbound_budget(inbound_endpoint_id text, rate_limit integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.fit_inbound_budget(inbound_endpoint_id text, rate_limit integer) IS 'Gives an endpoint''s rate budget as many slots as its limit.';


--
-- Name: flow_limits(timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  -- An endpoint whose row another session has locked is not among these, and begins nothing now.
  locked constant text[] := array(
    select f.endpoint_id from collecta.endpoint_flow f
    where f.max_per_second is not null or f.learned_per_second is not null
    order by f.endpoint_id for update skip locked);
begin
  select jsonb_object_agg(f.endpoint_id, jsonb_build_array(f.pace,
      case when f.held_until > present then 0
        when f.rate is null then null
        when f.endpoint_id <> all (locked) or f.slot > present then 0
        else floor(extract(epoch from present - f.slot) * f.rate / 1.25) + 1 end,
      case when f.rate is not null then 100 end)),
    min(greatest(f.held_until, f.slot)) filter (where greatest(f.held_until, f.slot) > present)
  into limits, again_at
  from (
    select f.endpoint_id, f.pace, f.held_until, least(f.max_per_second, f.learned_per_second) as rate,
      case when f.max_per_second is not null or f.learned_per_second is not null
        then greatest(f.next_slot, present - interval '50 ms') end as slot
    from collecta.endpoint_flow f
    where f.held_until > present or f.pace is not null or f.max_per_second is not null
      or f.learned_per_second is not null) f;
end
$$;


ALTER FUNCTION collecta.flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone) IS 'Returns by endpoint_id, for limited endpoints, how many deliveries may be in flight, how many may begin now, and within how many milliseconds; and when the first of these endpoints may begin again.';


--
-- Name: fold_rollup(timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.fold_rollup(present timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  hour constant timestamptz := date_trunc('hour', present);
  before constant timestamptz := (select folded_until from collecta.observation);
begin
  if hour <= before then
    return;
  end if;
  with folded as (
    delete from collecta.delivery_rollup r
    where r.endpoint_id <> '' and r.starts_at >= before - interval '2 hours' and r.starts_at < hour - interval '2 hours'
      or r.endpoint_id = '' and r.starts_at >= before - interval '25 hours' and r.starts_at < hour - interval '25 hours'
    returning r.*
  )
  insert into collecta.delivery_rollup as r
    (endpoint_id, starts_at, delivered, failed, exhausted, blocked, lost, answers, receipts)
  select f.endpoint_id, date_trunc('hour', f.starts_at), sum(f.delivered), sum(f.failed), sum(f.exhausted),
    sum(f.blocked), sum(f.lost), collecta.sum_counts(f.answers), collecta.sum_counts(f.receipts)
  from folded f group by 1, 2
  -- The hour may be there already, where an attempt was recorded late.
  on conflict on constraint delivery_rollup_pkey do update
    set delivered = r.delivered + excluded.delivered, failed = r.failed + excluded.failed,
      exhausted = r.exhausted + excluded.exhausted, blocked = r.blocked + excluded.blocked,
      lost = r.lost + excluded.lost,
      answers = collecta.add_counts(r.answers, excluded.answers),
      receipts = collecta.add_counts(r.receipts, excluded.receipts);
  with folded as (
    delete from collecta.delivery_rollup r
    where r.starts_at >= date_trunc('day', before) - interval '8 days'
      and r.starts_at < date_trunc('day', hour) - interval '8 days'
    returning r.*
  )
  insert into collecta.delivery_rollup as r
    (endpoint_id, starts_at, delivered, failed, exhausted, blocked, lost, answers, receipts)
  select f.endpoint_id, date_trunc('day', f.starts_at), sum(f.delivered), sum(f.failed), sum(f.exhausted),
    sum(f.blocked), sum(f.lost), collecta.sum_counts(f.answers), collecta.sum_counts(f.receipts)
  from folded f group by 1, 2;
  delete from collecta.delivery_rollup r using collecta.settings s
  where r.starts_at < present - greatest(s.rollup_retention, s.retention);
  update collecta.observation o set folded_until = hour;
end
$$;


ALTER FUNCTION collecta.fold_rollup(present timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION fold_rollup(present timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.fold_rollup(present timestamp with time zone) IS 'Keeps collecta.delivery_rollup small. observe() calls it.';


--
-- Name: follow_columns(collecta.module_versions, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.follow_columns(module collecta.module_versions, names text[]) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select names || array(
    select name from unnest(collecta.column_numbers(module, names)) number
    cross join lateral collecta.column_name(module.relation, number) name
    where name <> all (names))
$$;


ALTER FUNCTION collecta.follow_columns(module collecta.module_versions, names text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION follow_columns(module collecta.module_versions, names text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.follow_columns(module collecta.module_versions, names text[]) IS 'Returns a list of columns, with the present names of those that were renamed.';


--
-- Name: forget_inbound_endpoint(text, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.forget_inbound_endpoint(inbound_endpoint_id text, number integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  perform pg_advisory_xact_lock(1668246636, 8);
  delete from collecta.inbound_secrets s where s.inbound_endpoint_id = forget_inbound_endpoint.inbound_endpoint_id;
  execute format('drop function if exists collecta.write_inbound_%1$s(json[], int), '
    'collecta.cast_inbound_%1$s(json, text), '
    'collecta.map_inbound_%1$s(json, int), collecta.accept_inbound_%1$s(text[], text[], text[], text[])', number);
end
$_$;


ALTER FUNCTION collecta.forget_inbound_endpoint(inbound_endpoint_id text, number integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION forget_inbound_endpoint(inbound_endpoint_id text, number integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.forget_inbound_endpoint(inbound_endpoint_id text, number integer) IS 'delete_inbound_endpoint''s part in collecta''s own tables.';


--
-- Name: forget_module(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.forget_module(module_id integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  task text;
  before constant jsonb := collecta.enter_citus();
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
  foreach task in array array['insert', 'update', 'delete', 'truncate'] loop
    execute format('drop function if exists collecta_modules.%I()',
      format('capture_%s_%s', forget_module.module_id, task));
  end loop;
  execute format('drop function if exists collecta_rows.%I(record, record)', format('row_%s', forget_module.module_id));
  perform collecta.leave_citus(before);
end
$$;


ALTER FUNCTION collecta.forget_module(module_id integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION forget_module(module_id integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.forget_module(module_id integer) IS 'Writes collecta''s own tables for detach_module. Subscriptions are kept until the module''s last change is routed.';


--
-- Name: form_inbound_value(json, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.form_inbound_value(value json, forms text[]) RETURNS json
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select case
    when 'empty_as_null' = any (forms) and value #>> '{}' = '' then 'null'
    when t.seconds between -62135596800 and 253402300799 -- the years 1 to 9999
      then to_json(to_char(timestamp 'epoch' + interval '1 second' * t.seconds + interval '1 microsecond' * t.rest,
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    else value end
  -- The time is computed in whole microseconds, because a double would lose some of them.
  from (select case when forms && '{epoch_seconds,epoch_milliseconds}'
      -- numeric has at most 16,383 digits after the point, and an error here would fail a whole batch.
      and value #>> '{}' ~ '^-?[0-9]{1,15}([.][0-9]{1,250})?$' collate "C"
    then trunc((value #>> '{}')::numeric * case when 'epoch_seconds' = any (forms) then 1000000 else 1000 end) end)
    m (micros)
  cross join lateral (select mod(mod(m.micros, 1000000) + 1000000, 1000000)) r (rest)
  cross join lateral (select div(m.micros - r.rest, 1000000), r.rest) t (seconds, rest)
$_$;


ALTER FUNCTION collecta.form_inbound_value(value json, forms text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION form_inbound_value(value json, forms text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.form_inbound_value(value json, forms text[]) IS 'Converts a value as "as" in its mapping says. A value that does not have that form stays as it is.';


--
-- Name: function_hash(pg_proc); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.function_hash(f pg_proc) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select pg_catalog.md5(row(f.proowner::pg_catalog.regrole, pg_catalog.md5(f.prosrc), f.prosecdef, f.proconfig,
    f.proacl, f.provolatile, f.proisstrict, f.proparallel, f.prosupport::pg_catalog.regproc)::pg_catalog.text)
$$;


ALTER FUNCTION collecta.function_hash(f pg_proc) OWNER TO collecta_owner;

--
-- Name: FUNCTION function_hash(f pg_proc); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.function_hash(f pg_proc) IS 'Returns a hash of what a function does and who may call it. A changed hash shows that somebody altered the function.';


--
-- Name: function_hash(regprocedure); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.function_hash(function_id regprocedure) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select collecta.function_hash(p) from pg_catalog.pg_proc p where p.oid = function_id
$$;


ALTER FUNCTION collecta.function_hash(function_id regprocedure) OWNER TO collecta_owner;

--
-- Name: FUNCTION function_hash(function_id regprocedure); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.function_hash(function_id regprocedure) IS 'Returns the hash of the function with this oid.';


--
-- Name: grant_inbound(regclass, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.grant_inbound(relation regclass, function_number integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
  from collecta.inbound_endpoints e cross join unnest(e.columns) c
  where e.relation = grant_inbound.relation and e.state <> 'deleted'
      and to_regrole(quote_ident(collecta.role_name(e.writer))) = run_as;
  select array_agg(quote_ident(a.attname)) filter (where a.attname = any (mapped)),
    array_agg(quote_ident(a.attname)) filter (where (a.attname = any (mapped)) is not true)
  into written, unwritten
  from pg_catalog.pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped;
  select array_agg(quote_ident(c)) into keys
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
    execute format('grant select (tableoid, ctid, %s) on %s to %s', array_to_string(keys, ', '), relation, run_as);
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
$_$;


ALTER FUNCTION collecta.grant_inbound(relation regclass, function_number integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION grant_inbound(relation regclass, function_number integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.grant_inbound(relation regclass, function_number integer) IS 'Grants the writer of an inbound endpoint SELECT, INSERT and UPDATE on mapped columns, SELECT on the key and on what match_where names, and USAGE on the sequences of defaults; takes away what none of its endpoints maps any more.';


--
-- Name: has_only_enums(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.has_only_enums(relation oid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(bool_and(t.typtype = 'e' and (collecta.type_kind(t.oid) = 'untrusted' or not exists (
    select from pg_catalog.pg_cast c where c.castsource = t.oid and c.casttarget = 'json'::regtype))), false)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = collecta.element_type(a.atttypid)
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and t.oid >= 16384
$$;


ALTER FUNCTION collecta.has_only_enums(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION has_only_enums(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.has_only_enums(relation oid) IS 'Whether a table has columns of types that are not built in, and all of these are enums, arrays of enums or domains over them, whose values are captured as their text.';


--
-- Name: hides_records(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.hides_records(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select exists (select from pg_catalog.pg_class c where c.oid = relation and c.relrowsecurity)
$$;


ALTER FUNCTION collecta.hides_records(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION hides_records(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.hides_records(relation regclass) IS 'Whether row security could hide records from an inbound endpoint''s writer.';


--
-- Name: hold_lifeline(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.hold_lifeline(runner integer DEFAULT NULL::integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  number constant int := coalesce(runner, nextval('collecta.runner_numbers'));
begin
  if not pg_try_advisory_lock(1668246639, number) then
    raise exception using errcode = 'lock_not_available',
      message = format('runner %s is still held by another session', number),
      detail = 'The server has not noticed yet that the earlier session ended.', hint = 'Try again in a second.';
  end if;
  insert into collecta.runners as r (runner) values (number)
  on conflict on constraint runners_pkey do update set missing_since = null;
  return number;
end
$$;


ALTER FUNCTION collecta.hold_lifeline(runner integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION hold_lifeline(runner integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.hold_lifeline(runner integer) IS 'For runners, on a session that does nothing else: takes a number, or the same one again, and holds its advisory lock as long as the session lives. If the lock has been missing for 5 seconds, the runner counts as dead and others get its leases.';


--
-- Name: inbound_accept_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_accept_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
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
$body$ $_$;


ALTER FUNCTION collecta.inbound_accept_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_accept_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_accept_template() IS 'The body of accept_inbound_<n>, which the receiving process calls: it writes several ordinary requests of one endpoint in one transaction, stores them, and returns the ids of their records in the same order. If it returns null or fails, nothing was written, and each of them has to go through receive_inbound. Hashes may be null. checked_digests holds those of body_digests that make a request a repetition of an earlier one with the same digest.';


--
-- Name: inbound_cast_problem(text, text, json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
exception when others then
  return format('%s cannot be stored as %s', case when kind in ('object', 'array') then 'an ' || kind
    when kind = 'null' then kind else 'this ' || kind end, col.type);
end
$_$;


ALTER FUNCTION collecta.inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json) IS 'Why one mapped value cannot be stored in its column, in words that quote nothing of it; null if it can.';


--
-- Name: inbound_cast_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_cast_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
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
  return case column_name @casts@
  end;
end
$body$ $_$;


ALTER FUNCTION collecta.inbound_cast_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_cast_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_cast_template() IS 'The body of cast_inbound_<n>: the value that a column would be given, as text. input has this column only.';


--
-- Name: inbound_failure(text, text, text, text, text, json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text) IS 'Says what a sender is told about an error. It names columns and constraints, and quotes nothing of the payload.';


--
-- Name: inbound_insert_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_insert_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
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
    @exact_insert@
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
$body$ $_$;


ALTER FUNCTION collecta.inbound_insert_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_insert_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_insert_template() IS 'The body of write_inbound_<n> where every payload makes a record.';


--
-- Name: inbound_map_parts(jsonb, text, boolean, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  with field as (
    select m.*, coalesce(left(m.path, 2) = repeat('$', 2), false) as in_whole,
      to_json(m.column_name)::text || ':' as key, row_number() over (order by m.column_name collate "C") as n
    from collecta.read_inbound_mapping(mapping) m),
  source as (
    select f.*, p.value as found,
      case when f.forms <@ '{unchecked}' then format('(%s)', p.value)
        else format('collecta.form_inbound_value(%s, %L)', p.value, f.forms) end as formed
    from field f
    cross join lateral (select case when f.in_whole then format('whole[%s]', f.n)
      else collecta.inbound_path_sql(f.path, 'element') end) p (value)),
  list as (select collecta.inbound_path_sql(each, 'document') as found),
  -- Without each, every element of an array has to be read by some path.
  unread as (
    select min(i) as place from generate_series(0, (select count(*)::int from field)) i
    where not exists (select from field f where f.steps = '{}' or f.path ~ ('^\$+\[' || i || '\]') collate "C")),
  -- A path that is not there gives SQL's null, which array_to_string leaves out. An explicit null is the text null.
  mapped as (
    select bool_or(f.in_whole) as uses_whole,
      format('(''{'' || array_to_string(array[%s], '','') || ''}'')', string_agg(
        case when f.path is null then quote_literal(f.key || f.constant::text)
          when f.fallback is null then format('%L || %s::text', f.key, f.formed)
          else format('%L || coalesce(%s::text, %L)', f.key, f.formed, f.fallback) end, E',\n      ' order by f.n))
        as given,
      -- The same for a payload that has nothing of what is mapped.
      '{' || coalesce(string_agg(f.key || coalesce(f.constant, f.fallback), ',' order by f.n), '') || '}' as of_nothing,
      coalesce('coalesce(' || string_agg(f.found, ', ' order by f.n) filter (where f.path is not null) || ')', 'null')
        as found,
      coalesce('case ' || string_agg(format('when (%s) is null then %L', f.found, f.column_name), ' ' order by f.n)
        filter (where f.required) || ' end', 'null') as missing
    from source f)
  select jsonb_build_object(
    'missing', mapped.missing,
    'found', mapped.found,
    'plain', case when each is null and not mapped.uses_whole
      then format('case when %s is null then nullif(%s, %L)::json end', mapped.missing, mapped.given, mapped.of_nothing)
      else 'null::json' end,
    'whole', case when mapped.uses_whole then (
      select format('array[%s]::json[]', string_agg(
        case when f.in_whole then collecta.inbound_path_sql(f.path, 'document') else 'null' end, ', ' order by f.n))
      from field f) else 'null' end,
    'is_whole', exists (select from field f where f.steps = '{}' and not f.in_whole),
    'first_names', quote_literal(array(
      select f.steps[1] from field f where f.steps <> '{}' and not f.in_whole)) || '::text[]'
    ) || case when each is null then jsonb_build_object(
      'elements', 'array[document]', 'alone', false, 'place', quote_literal(''), 'result', mapped.given || '::json',
      'refusal', format('case when json_typeof(document) = ''array'' then case when json_array_length(document) > %s '
        'then %L end end', coalesce(unread.place, 2147483647),
        'the payload is an array; each => ''$'' makes a record of every element'))
    else jsonb_build_object(
      'elements', format('array(select json_array_elements(%s))', list.found), 'alone', each_alone,
      'place', 'format(''element %s: '', cardinality(elements))',
      'result', format('case when problem is null then json_build_object(''values'', %s) '
        'else json_build_object(''problem'', problem, ''column'', column_name) end', mapped.given || '::json'),
      'refusal', format('case when json_typeof(%1$s) is distinct from ''array'' then %2$L '
        'when json_array_length(%1$s) > %3$s then %4$L end', list.found, format('there is no array at %s', each),
        max_elements, format('the array at %s has more than %s elements', each, max_elements))) end
  from list, unread, mapped
$_$;


ALTER FUNCTION collecta.inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer) IS 'What the template of map_inbound_<n> is filled with.';


--
-- Name: inbound_map_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_map_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
#variable_conflict use_column
declare
  element json;
  -- The values of paths into the whole payload. They are looked up once, and not for each element.
  whole constant json[] := @whole@;
begin
  if mapping_version <> @mapping_version@ then
    raise exception using errcode = '40001', message = 'the mapping was changed meanwhile';
  end if;
  elements := '{}';
  problem := @refusal@;
  if problem is not null then
    return;
  end if;
  foreach element in array @elements@ loop
    -- Each path reads a json value from its beginning. So what no path names is removed from a large one first.
    if octet_length(element::text) > 8192 and json_typeof(element) = 'object' and not @is_whole@ then
      select coalesce(json_object_agg(e.key, e.value), '{}') into element
      from json_each(element) e where e.key = any (@first_names@);
    end if;
    column_name := @missing@;
    problem := case when column_name is not null then 'it is required, and the payload does not have it'
      when @found@ is null then 'the payload has nothing of what is mapped' end;
    if problem is not null and not @alone@ then
      problem := @place@ || problem;
      elements := '{}';
      return;
    end if;
    elements := elements || @result@;
  end loop;
  problem := null;
  column_name := null;
end
$body$ $_$;


ALTER FUNCTION collecta.inbound_map_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_map_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_map_template() IS 'The body of map_inbound_<n>: what is made of a payload before it is written. elements: an object of mapped values for each record; for each element of a batch {"values": ...} or {"problem": ..., "column": ...}. problem: why the payload cannot be mapped.';


--
-- Name: inbound_match_columns(text[], text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_match_columns(columns text[], match_columns text[], scope_column text) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case when match_columns = '{}' or scope_column is null
      or scope_column = any (match_columns) or scope_column <> all (columns) then match_columns
    else match_columns || scope_column end
$$;


ALTER FUNCTION collecta.inbound_match_columns(columns text[], match_columns text[], scope_column text) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_match_columns(columns text[], match_columns text[], scope_column text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_match_columns(columns text[], match_columns text[], scope_column text) IS 'The columns that a record is matched by: the scope column too, where it is mapped, so that no tenant''s record is taken for another''s.';


--
-- Name: inbound_match_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_match_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
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
$body$ $_$;


ALTER FUNCTION collecta.inbound_match_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_match_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_match_template() IS 'The body of write_inbound_<n> where a payload updates the record that it matches, or makes one.';


--
-- Name: inbound_path_sql(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_path_sql(path text, start text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select start || coalesce(string_agg(' -> ' || coalesce(quote_literal(coalesce(m.step[1], m.step[2])), m.step[3]), ''
    order by m.place), '')
  from regexp_matches(path collate "C", '\.([A-Za-z_][A-Za-z0-9_-]*)|\[''([^'']+)''\]|\[([0-9]+)\]', 'g')
    with ordinality m (step, place)
$$;


ALTER FUNCTION collecta.inbound_path_sql(path text, start text) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_path_sql(path text, start text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_path_sql(path text, start text) IS 'A path as an SQL expression. A name finds only members of objects, and an index only elements of arrays.';


--
-- Name: inbound_path_steps(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_path_steps(path text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select case when length(path) <= 512
      and path collate "C" ~ '^\$\$?(\.[A-Za-z_][A-Za-z0-9_-]*|\[''[^''\\^`[:cntrl:]]+''\]|'
        '\[(0|[1-9][0-9]{0,5})\]){0,16}$'
    then (select coalesce(array_agg(coalesce(step[1], step[2], step[3]) order by place), '{}')
          from regexp_matches(path collate "C", '\.([A-Za-z_][A-Za-z0-9_-]*)|\[''([^'']+)''\]|\[([0-9]+)\]', 'g')
            with ordinality m (step, place)) end
$_$;


ALTER FUNCTION collecta.inbound_path_steps(path text) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_path_steps(path text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_path_steps(path text) IS 'The names and indexes of $.name, $[''name''], $[0] ... (at most 16 steps and 512 characters); null for anything else.';


--
-- Name: inbound_shape(regclass, text[], integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_shape(relation regclass, columns text[], version integer) RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select concat_ws(':', relation, version, collecta.can_group_inbound(relation),
    (select count(*) from pg_catalog.pg_index i where i.indrelid = relation and i.indisunique and i.indisvalid),
    (select string_agg(a.attname || ' ' || a.atttypid || ' ' || a.atttypmod, ',' order by a.attnum)
     from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = any (columns) and not a.attisdropped))
$$;


ALTER FUNCTION collecta.inbound_shape(relation regclass, columns text[], version integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_shape(relation regclass, columns text[], version integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_shape(relation regclass, columns text[], version integer) IS 'What an inbound endpoint''s functions depend on, as text to compare.';


--
-- Name: inbound_template_parts(regclass, text[], text[], text[], text, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
      hint = 'select collecta.update_inbound_endpoint(inbound_endpoint_id, mapping => ''...'') takes a mended mapping.';
  elsif unequal is not null then
    raise exception using errcode = 'CW054',
      message = format('a record of %s cannot be matched by %s', relation, unequal),
      detail = 'Its type has no equality operator that indexes could use.',
      hint = 'Match by another column, or change this one''s type: alter table ... alter column ... type jsonb;';
  end if;
  key := case cardinality(key_columns)
    when 1 then format('pg_catalog.to_json(t.%I) operator(pg_catalog.#>>) ''{}''', key_columns[1])
    else (select format('pg_catalog.concat(''['', %s, '']'')',
            string_agg(format('pg_catalog.to_json(t.%I)', k), ', '','', ' order by place))
          from unnest(key_columns) with ordinality u (k, place)) end;
  -- format() fills these two again for each payload, with the columns that it has.
  return parts || jsonb_build_object('key', key,
    'exact_insert', format(
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
$_$;


ALTER FUNCTION collecta.inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]) IS 'What the templates of an inbound endpoint''s functions are filled with, read from the catalog.';


--
-- Name: inbound_type_schemas(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_type_schemas(relation regclass) RETURNS SETOF name
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.inbound_type_schemas(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_type_schemas(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_type_schemas(relation regclass) IS 'The schemas of the table''s types that have operators of their own (extensions''), which its triggers may need.';


--
-- Name: inbound_value_check(text, oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_value_check(column_name text, type_id oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;


ALTER FUNCTION collecta.inbound_value_check(column_name text, type_id oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_value_check(column_name text, type_id oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_value_check(column_name text, type_id oid) IS 'SQL that is true of a value that its column''s type would take for something else than was meant.';


--
-- Name: inbound_write_settings(regclass, text[], boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.inbound_write_settings(relation regclass, columns text[], has_condition boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.inbound_write_settings(relation regclass, columns text[], has_condition boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION inbound_write_settings(relation regclass, columns text[], has_condition boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.inbound_write_settings(relation regclass, columns text[], has_condition boolean) IS 'The settings of an inbound endpoint''s write_inbound_<n> and cast_inbound_<n>.';


--
-- Name: infer_match_where(regclass, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.infer_match_where(relation regclass, columns text[]) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case when count(*) = 1 then min(k.predicate collate "C") end from collecta.unique_keys(relation, columns) k
$$;


ALTER FUNCTION collecta.infer_match_where(relation regclass, columns text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION infer_match_where(relation regclass, columns text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.infer_match_where(relation regclass, columns text[]) IS 'The predicate of the only unique index on these columns, where that one is partial.';


--
-- Name: installed_migrations(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.installed_migrations() RETURNS TABLE(filename text, hash text, previous_hash text)
    LANGUAGE sql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$values ('000001-install.sql', 'sha1:eac230193feed47e3a6bb21d2a925f89efe622b3', NULL::text)$$;


ALTER FUNCTION collecta.installed_migrations() OWNER TO collecta_owner;

--
-- Name: FUNCTION installed_migrations(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.installed_migrations() IS 'The rows of collecta.migrations once more, as a function: that is also in a copy of the schema alone.';


--
-- Name: is_distributed(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_distributed(relation regclass) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  partitions constant regclass := to_regclass('pg_catalog.pg_dist_partition');
  found boolean;
begin
  if partitions is null then
    return false;
  end if;
  execute format('select exists (select from %s p where p.logicalrelid = $1)', partitions) into found using relation;
  return found;
end
$_$;


ALTER FUNCTION collecta.is_distributed(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_distributed(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_distributed(relation regclass) IS 'Whether Citus keeps the rows of a table in shards: a distributed, reference or schema-sharded table.';


--
-- Name: is_in_scope(text, text, timestamp with time zone, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return exists (
    select from collecta.events e
    where e.event_id = is_in_scope.event_id and e.payload_role = is_in_scope.payload_role
      and e.routed_at = is_in_scope.routed_at and e.scope = any (scopes));
end
$$;


ALTER FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) IS 'Whether an event belongs to one of these scopes. The policies call it for restricted roles.';


--
-- Name: is_inbound_secret(text, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_inbound_secret(secret text, signatures jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case
    when secret like 'sealed:%' or signatures @> '[{"key": "base64"}]' then collecta.is_secret(secret)
    else secret is null or length(secret) between 1 and 512 and secret !~ '[[:cntrl:]]' collate "C" end
$$;


ALTER FUNCTION collecta.is_inbound_secret(secret text, signatures jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_inbound_secret(secret text, signatures jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_inbound_secret(secret text, signatures jsonb) IS 'As is_secret; of a sender whose keys are text, what follows whsec_ need not be base64.';


--
-- Name: is_inbound_shape(text, integer, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_inbound_shape(inbound_endpoint_id text, version integer, expected text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.is_inbound_shape(inbound_endpoint_id text, version integer, expected text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_inbound_shape(inbound_endpoint_id text, version integer, expected text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_inbound_shape(inbound_endpoint_id text, version integer, expected text) IS 'Raises CW059 if the table of an inbound endpoint is no longer what its functions were written for.';


--
-- Name: is_inbound_source(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_inbound_source(source text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select coalesce(source ~ '^(header:[a-z0-9_-]{1,100}|query:[A-Za-z0-9._-]{1,100})$' collate "C"
    -- There is no larger whole that $$ could mean here. A length in octets is also within the receiver's limit, which
    -- counts UTF-16.
    or octet_length(source) <= 512 and source not like '$$%'
      and collecta.inbound_path_steps(split_part(source, '[*]', 1)) is not null
      and collecta.inbound_path_steps('$' || split_part(source, '[*]', 2)) is not null
      and source not like '%[*]%[*]%', false)
$_$;


ALTER FUNCTION collecta.is_inbound_source(source text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_inbound_source(source text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_inbound_source(source text) IS 'Whether this says where a value stands in a request: header:<name>, query:<name>, or a path, in which one [*] is any element. It accepts what src/inbound/senders.ts can read, and nothing else.';


--
-- Name: is_inbound_template(text, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_inbound_template(template text, names text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select not exists (
    select from regexp_matches(template, '\{([^}]+)\}' collate "C", 'g') m (placeholder)
    where m.placeholder[1] <> all (array_remove(names, null)) and not collecta.is_inbound_source(m.placeholder[1]))
$$;


ALTER FUNCTION collecta.is_inbound_template(template text, names text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_inbound_template(template text, names text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_inbound_template(template text, names text[]) IS 'Whether each {placeholder} of a template is one of these names, or says where a value stands in a request.';


--
-- Name: is_same_json(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_same_json(a text, b text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return a::jsonb = b::jsonb;
exception when others then
  return false;
end
$$;


ALTER FUNCTION collecta.is_same_json(a text, b text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_same_json(a text, b text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_same_json(a text, b text) IS 'Whether two texts are the same JSON, however it is spelt.';


--
-- Name: is_secret(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_secret(secret text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select secret is null or case
    when secret like 'sealed:%'
      then length(secret) <= 4096 and secret ~ '^sealed:v1:[0-9a-f]{8}:[A-Za-z0-9+/]{38,}={0,2}$'
    when secret like 'whsec\_%' then length(secret) <= 512
      and secret ~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)$'
    else length(secret) between 1 and 512 and secret !~ '[[:cntrl:]]' collate "C" end
$_$;


ALTER FUNCTION collecta.is_secret(secret text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_secret(secret text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_secret(secret text) IS 'Whether a text can be a signing secret: printable characters, base64 after whsec_, and the right form after sealed:. Only the runner can tell whether a sealed one can be opened.';


--
-- Name: is_unique_key(regclass, text[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_unique_key(relation regclass, columns text[], match_where text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select exists (
    select from collecta.unique_keys(relation, columns) k
    where k.predicate is null
      or collecta.plain_predicate(k.predicate) = collecta.plain_predicate(is_unique_key.match_where))
$$;


ALTER FUNCTION collecta.is_unique_key(relation regclass, columns text[], match_where text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_unique_key(relation regclass, columns text[], match_where text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_unique_key(relation regclass, columns text[], match_where text) IS 'Whether a valid unique index that is checked at once stands on exactly these columns, over all records or over those of match_where.';


--
-- Name: is_walled(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.is_walled(view_name text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select not r.rolsuper and not r.rolbypassrls and not pg_has_role(r.oid, e.relowner, 'usage')
  from pg_catalog.pg_class v
  join pg_catalog.pg_roles r on r.oid = v.relowner
  join pg_catalog.pg_class e on e.oid = 'collecta.events'::regclass
  where v.relnamespace = 'collecta'::regnamespace and v.relname = view_name
$$;


ALTER FUNCTION collecta.is_walled(view_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION is_walled(view_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.is_walled(view_name text) IS 'Returns whether row security applies to the owner of a view. A query of the view calls it once.';


--
-- Name: key_expression(collecta.module_versions, oid, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.key_expression(module collecta.module_versions, relation oid, alias text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select 'array[' || string_agg(format('concat(%s.%I)', alias, a.attname), ', ' order by a.attname) || ']::text'
  from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attname = any (module.key_columns) and not a.attisdropped
$$;


ALTER FUNCTION collecta.key_expression(module collecta.module_versions, relation oid, alias text) OWNER TO collecta_owner;

--
-- Name: FUNCTION key_expression(module collecta.module_versions, relation oid, alias text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.key_expression(module collecta.module_versions, relation oid, alias text) IS 'Returns the expression for a record''s key as text, by which the old rows of a statement are paired with the new ones.';


--
-- Name: keys_of(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.keys_of(relation regclass) RETURNS TABLE(columns text[], is_primary boolean)
    LANGUAGE sql STABLE
    AS $$
  select pg_catalog.array_agg(a.attname::text order by k.ordinality), i.indisprimary
  from pg_catalog.pg_index i
  cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality k (attnum, ordinality)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = relation and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null
    and i.indexprs is null and k.ordinality <= i.indnkeyatts
  group by i.indexrelid, i.indisprimary
  having pg_catalog.bool_and(a.attnotnull)
$$;


ALTER FUNCTION collecta.keys_of(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION keys_of(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.keys_of(relation regclass) IS 'Returns the keys that identify the records of a table: unique, not null, not partial and not deferrable.';


--
-- Name: last_change_id(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.last_change_id() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case when is_called then last_value else 0 end from collecta.outbox_change_id_seq
$$;


ALTER FUNCTION collecta.last_change_id() OWNER TO collecta_owner;

--
-- Name: FUNCTION last_change_id(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.last_change_id() IS 'Returns the last change_id that the outbox has used.';


--
-- Name: latency_step(double precision); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.latency_step(ms double precision) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  -- The factor is 2 / ln(2).
  select case when ms is null then -1 when ms <= 1 then 0
    else least(63, ceil(ln(ms) * 2.8853900817779268::float8)) end::smallint
$$;


ALTER FUNCTION collecta.latency_step(ms double precision) OWNER TO collecta_owner;

--
-- Name: FUNCTION latency_step(ms double precision); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.latency_step(ms double precision) IS 'Returns the step of a duration in collecta.delivery_rollup: the lowest whose limit, 2^(step/2) milliseconds, is not exceeded. -1 for null.';


--
-- Name: leave_citus(jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.leave_citus(before jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform set_config(name, value, true) from jsonb_each_text(before) setting (name, value);
end
$$;


ALTER FUNCTION collecta.leave_citus(before jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION leave_citus(before jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.leave_citus(before jsonb) IS 'Restores the settings that enter_citus returned.';


--
-- Name: let_capture_read(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.let_capture_read(relation regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  capturer constant name := collecta.capturing_role();
  namespace constant regnamespace := (select c.relnamespace from pg_catalog.pg_class c where c.oid = relation);
  problem text;
begin
  begin
    if not has_schema_privilege(capturer, namespace, 'usage') then
      execute format('grant usage on schema %s to %I', namespace, capturer);
    end if;
    if not has_table_privilege(capturer, relation, 'select') then
      execute format('grant select on %s to %I', relation, capturer);
    end if;
  exception when insufficient_privilege then
    null; -- Who lacks the grant option only gets a warning: so it is the result that counts.
  end;
  problem := collecta.truncate_problem(relation);
  if problem is not null then
    raise exception using errcode = 'CW002',
      message = format('the records of a TRUNCATE of %s could not be captured: %s', relation, problem),
      detail = 'The capturing function reads the table before TRUNCATE, and must see every record. Or attach it with '
        'on_truncate => ''ignore''.',
      hint = collecta.truncate_remedy(relation);
  end if;
end
$$;


ALTER FUNCTION collecta.let_capture_read(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION let_capture_read(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.let_capture_read(relation regclass) IS 'Grants the rights that capturing a TRUNCATE needs. It runs as the caller of attach_module.';


--
-- Name: limit_endpoint(text, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.limit_endpoint(endpoint_id text, max_per_second integer) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  insert into collecta.endpoint_flow (endpoint_id, max_per_second)
  select limit_endpoint.endpoint_id, limit_endpoint.max_per_second
  where limit_endpoint.max_per_second is not null
    or exists (select from collecta.endpoint_flow f where f.endpoint_id = limit_endpoint.endpoint_id)
  on conflict on constraint endpoint_flow_pkey do update set max_per_second = excluded.max_per_second
$$;


ALTER FUNCTION collecta.limit_endpoint(endpoint_id text, max_per_second integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION limit_endpoint(endpoint_id text, max_per_second integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.limit_endpoint(endpoint_id text, max_per_second integer) IS 'Sets an endpoint''s max_per_second, or removes it if null is given.';


--
-- Name: maintain(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.maintain() RETURNS TABLE(done text, subject text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '100ms'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $_$
declare
  parent text;
  day date;
  partition record;
  made boolean := false;
  before jsonb;
  keep constant interval := (select retention from collecta.settings);
begin
  if not pg_try_advisory_xact_lock(1668246636, 7) then
    return;
  end if;
  before := collecta.enter_citus();
  foreach parent in array array['events', 'delivery_attempts'] loop
    for day in select generate_series(current_date, current_date + 3, interval '1 day')::date loop
      continue when to_regclass(format('collecta.%I', parent || to_char(day, '_YYYYMMDD'))) is not null;
      -- An event trigger of the user's may refuse it. What else there is to do does not wait for that.
      begin
        execute format('create table collecta.%I '
                       '(like collecta.%I including defaults including constraints including comments)',
                       parent || to_char(day, '_YYYYMMDD'), parent);
        execute format('alter table collecta.%I attach partition collecta.%I for values from (%L) to (%L)',
          parent, parent || to_char(day, '_YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
        done := 'made partition';
        made := true;
      exception when others then
        done := format('failed to make partition: %s (%s)', sqlerrm, sqlstate);
      end;
      subject := parent || to_char(day, '_YYYYMMDD');
      return next;
    end loop;
    for partition in
      select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
      from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
      where i.inhparent = format('collecta.%I', parent)::regclass and c.relname ~ '_[0-9]{8}$'
    loop
      continue when partition.day + 1 > now() - keep;
      -- A delivery that is queued or set aside still needs its event.
      continue when exists (select from collecta.delivery_queue q
          where q.routed_at >= partition.day::timestamptz and q.routed_at < (partition.day + 1)::timestamptz)
        or exists (select from collecta.unrouted u
          where u.routed_at >= partition.day::timestamptz and u.routed_at < (partition.day + 1)::timestamptz);
      begin
        execute format('drop table collecta.%I', partition.relname);
        done := 'dropped partition';
      exception
        when lock_not_available then
          done := 'left for next time, somebody is reading it';
        when others then
          done := format('failed to drop partition: %s (%s)', sqlerrm, sqlstate);
      end;
      subject := partition.relname;
      return next;
    end loop;
  end loop;

  delete from collecta.reorderings r where r.ended_in is not null and r.since < now() - interval '1 day';

  -- Generated functions are written again if DDL, a restore or a person changed something. This is skipped while
  -- another session attaches a module or changes subscriptions.
  if pg_try_advisory_xact_lock(1668246636, 5) then
    return query select 'wrote capture functions', r from collecta.resolve_modules() r;
    return query select 'attached shards', r from collecta.attach_moved_shards() r;
  end if;

  -- Default privileges of the owner may have granted something on the new tables.
  if made then
    perform collecta.restore_grants();
  end if;

  perform collecta.remember_module_tables();
  delete from collecta.muted_changes m where m.captured_at < now() - keep;
  delete from collecta.delivery_queue q using collecta.endpoints e
  where e.endpoint_id = q.endpoint_id and e.state = 'deleted' and (q.leased_until is null or q.leased_until < now());
  delete from collecta.module_versions v
  where v.made_at < now() - keep
    and not exists (select from collecta.modules m where m.current_version = v.version)
    and not exists (select from collecta.outbox o where o.version = v.version)
    and not exists (select from collecta.unrouted u where u.version = v.version);
  delete from collecta.subscriptions s
  where not exists (select from collecta.module_versions v where v.module_id = s.module_id);

  return query
  update collecta.endpoints e
  set state = 'paused', paused_reason = format('it failed without one success since %s', f.failing_since)
  from collecta.settings s, collecta.endpoint_flow f
  where f.endpoint_id = e.endpoint_id and e.state = 'active' and f.failing_since < now() - s.pause_after
    and e.endpoint_id in (
      select l.endpoint_id from collecta.endpoints l where l.state = 'active' for update skip locked)
  returning 'paused a failing endpoint', e.endpoint_id;
  delete from collecta.endpoint_flow f
  where f.failing_since is null and f.pace is null and f.learned_per_second is null and f.max_per_second is null
    and coalesce(f.held_until, f.held_at, '-infinity') < now() - interval '10 minutes';
  -- Rows that wait although nothing is before them any more: one was deleted by hand, or an endpoint's order changed.
  perform collecta.promote_next(array_agg(w.endpoint_id), array_agg(w.record_key))
  from (
    select distinct q.endpoint_id, q.record_key from collecta.delivery_queue q
    where q.record_key is not null and q.due_at = 'infinity') w;
  perform collecta.leave_citus(before);
end
$_$;


ALTER FUNCTION collecta.maintain() OWNER TO collecta_owner;

--
-- Name: FUNCTION maintain(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.maintain() IS 'Creates partitions for the next days, drops those older than settings.retention, and pauses endpoints that have failed for settings.pause_after. Runners call it when they start and every ten minutes. Returns what it did.';


--
-- Name: maintain_inbound(json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.maintain_inbound(refusals json DEFAULT '[]'::json) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  gone bigint;
begin
  insert into collecta.inbound_refusals as r (day, inbound_endpoint_id, status, requests)
  select (now() at time zone 'UTC')::date, c.inbound_endpoint_id, c.status, c.requests
  from json_to_recordset(refusals) c (inbound_endpoint_id text, status int, requests bigint)
  order by inbound_endpoint_id collate "C", status
  on conflict on constraint inbound_refusals_pkey do update set requests = r.requests + excluded.requests;
  perform collecta.mend_inbound();
  -- Only 1,000 are deleted in a call, because bodies are large and a call must not take long.
  with old as (
    select o.request_id
    from collecta.inbound_requests o
    where o.received_at < now() - (select retention from collecta.settings) and o.state <> 'retry'
    limit 1000 for update skip locked)
  delete from collecta.inbound_requests r using old where r.request_id = old.request_id;
  get diagnostics gone = row_count;
  delete from collecta.inbound_refusals r where r.day < (now() - (select retention from collecta.settings))::date;
  return gone;
end
$$;


ALTER FUNCTION collecta.maintain_inbound(refusals json) OWNER TO collecta_owner;

--
-- Name: FUNCTION maintain_inbound(refusals json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.maintain_inbound(refusals json) IS 'For the receiving process, which calls it every few seconds: it adds up refused requests, and deletes stored ones that are older than settings.retention.';


--
-- Name: map_inbound_1(json, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.map_inbound_1(document json, mapping_version integer, OUT elements json[], OUT problem text, OUT column_name text) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $_$
#variable_conflict use_column
declare
  element json;
  -- The values of paths into the whole payload. They are looked up once, and not for each element.
  whole constant json[] := null;
begin
  if mapping_version <> 1 then
    raise exception using errcode = '40001', message = 'the mapping was changed meanwhile';
  end if;
  elements := '{}';
  problem := case when json_typeof(document) = 'array' then case when json_array_length(document) > 0 then 'the payload is an array; each => ''$'' makes a record of every element' end end;
  if problem is not null then
    return;
  end if;
  foreach element in array array[document] loop
    -- Each path reads a json value from its beginning. So what no path names is removed from a large one first.
    if octet_length(element::text) > 8192 and json_typeof(element) = 'object' and not false then
      select coalesce(json_object_agg(e.key, e.value), '{}') into element
      from json_each(element) e where e.key = any ('{id,status}'::text[]);
    end if;
    column_name := null;
    problem := case when column_name is not null then 'it is required, and the payload does not have it'
      when coalesce(element -> 'id', element -> 'status') is null then 'the payload has nothing of what is mapped' end;
    if problem is not null and not false then
      problem := '' || problem;
      elements := '{}';
      return;
    end if;
    elements := elements || ('{' || array_to_string(array['"id":' || (element -> 'id')::text,
      '"status":' || (element -> 'status')::text], ',') || '}')::json;
  end loop;
  problem := null;
  column_name := null;
end
$_$;


ALTER FUNCTION collecta.map_inbound_1(document json, mapping_version integer, OUT elements json[], OUT problem text, OUT column_name text) OWNER TO collecta_owner;

--
-- Name: mask_escapes(json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.mask_escapes(document json) RETURNS json
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case when strpos(document::text, E'\\u') = 0 and strpos(document::text, E'\x7f') = 0 then document
    else regexp_replace(replace(document::text, E'\x7f', E'\x7fd'), E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u', E'\\1\x7fu',
      'g')::json end
$$;


ALTER FUNCTION collecta.mask_escapes(document json) OWNER TO collecta_owner;

--
-- Name: FUNCTION mask_escapes(document json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.mask_escapes(document json) IS 'Replaces \u escapes in a document, so that json_each and -> do not refuse it.';


--
-- Name: mask_headers(jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.mask_headers(headers jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(jsonb_object_agg(h.key, case
    when h.key ~* 'auth|cookie|token|secret|passw|key|session|signature|credential' collate "C"
      or h.value ~* '^(basic|bearer|digest|token|apikey) ' collate "C" then '***' else h.value end), '{}')
  from jsonb_each_text(headers) h
$$;


ALTER FUNCTION collecta.mask_headers(headers jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION mask_headers(headers jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.mask_headers(headers jsonb) IS 'Returns request headers as readers may see them. The value is *** if the name or the value of a header looks like a credential.';


--
-- Name: mend_inbound(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.mend_inbound(anew boolean DEFAULT false) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
      -- A column may have been renamed, or a lock held. collecta.health keeps its row, and the next call tries again.
      raise warning 'collecta: the functions of % could not be written: %', endpoint_id, sqlstate;
    end;
  end loop;
end
$$;


ALTER FUNCTION collecta.mend_inbound(anew boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION mend_inbound(anew boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.mend_inbound(anew boolean) IS 'Writes the functions of broken inbound endpoints anew, or with anew those of all; returns their ids.';


--
-- Name: mend_queue(timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.mend_queue(present timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  dead int[];
  endpoint_ids text[];
  record_keys bigint[];
begin
  with seen as (
    select r.runner, exists (
        select from pg_locks l
        where l.locktype = 'advisory' and l.classid = 1668246639 and l.objid::bigint = r.runner and l.objsubid = 2
          and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database())) as alive
    from collecta.runners r
  ), noted as (
    update collecta.runners r
    set missing_since = case when not s.alive then present end
    from seen s
    where r.runner = s.runner and s.alive <> (r.missing_since is null)
  ), gone as (
    -- A runner whose session was ended has a new one within this time. A process that died does not.
    delete from collecta.runners r using seen s
    where r.runner = s.runner and not s.alive and r.missing_since < present - interval '5 s'
    returning r.runner
  )
  select array_agg(g.runner) into dead from gone g;
  if dead is not null then
    update collecta.delivery_queue q set leased_until = present - interval '1 us'
    where q.runner = any (dead) and q.leased_until > present;
  end if;
  select array_agg(q.endpoint_id) filter (where q.due_at = 'infinity'),
    array_agg(q.record_key) filter (where q.due_at = 'infinity')
  into endpoint_ids, record_keys
  from (
    -- The order makes PostgreSQL use the index of replays.
    select * from collecta.delivery_queue q where q.replay_of is not null
    order by q.event_id, q.endpoint_id offset 0) q;
  if endpoint_ids is not null then
    perform collecta.promote_next(endpoint_ids, record_keys);
  end if;
  if exists (select from collecta.unrouted u where u.again) then
    perform collecta.take_back();
  end if;
end
$$;


ALTER FUNCTION collecta.mend_queue(present timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION mend_queue(present timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.mend_queue(present timestamp with time zone) IS 'Ends the leases of runners that died, makes replays of ordered endpoints due, and takes back what route_again() marked.';


--
-- Name: missing_columns(json, collecta.module_versions, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.missing_columns(captured json, module collecta.module_versions, truncated boolean) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select string_agg(c, ', ')
  from unnest(module.key_columns || module.status_column || module.scope_column
    || case when truncated is not true then module.custom_data_column end) c
  where c is not null and (captured -> c) is null
$$;


ALTER FUNCTION collecta.missing_columns(captured json, module collecta.module_versions, truncated boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION missing_columns(captured json, module collecta.module_versions, truncated boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.missing_columns(captured json, module collecta.module_versions, truncated boolean) IS 'Returns the configured columns that a captured row does not have; null if it has all.';


--
-- Name: module_members(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.module_members(relation regclass) RETURNS TABLE(relid regclass, level integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  if not collecta.is_distributed(relation) then
    return query
    select module_members.relation, 0 union select p.relid, p.level from pg_partition_tree(module_members.relation) p;
  else
    return query
    select s, t.level from (
      select module_members.relation as relid, 0 as level
      union select p.relid, p.level from pg_partition_tree(module_members.relation) p) t
    cross join lateral collecta.placed_shards(t.relid) s
    where s is not null;
  end if;
end
$$;


ALTER FUNCTION collecta.module_members(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION module_members(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.module_members(relation regclass) IS 'Returns the tables that hold the rows of a module on this server: the table itself and its partitions, or their shards on this node.';


--
-- Name: new_id(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.new_id(prefix text) RETURNS text
    LANGUAGE sql PARALLEL SAFE
    AS $$
  select prefix || '_' || lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
$$;


ALTER FUNCTION collecta.new_id(prefix text) OWNER TO collecta_owner;

--
-- Name: FUNCTION new_id(prefix text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.new_id(prefix text) IS 'Returns a time-ordered, globally unique id such as rec_019ab3... for use as a column default: default collecta.new_id(''rec''). Roles that insert need USAGE on the schema collecta and EXECUTE on this function.';


--
-- Name: new_secret(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.new_secret() RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select 'whsec_' || encode(sha256(
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64')
$$;


ALTER FUNCTION collecta.new_secret() OWNER TO collecta_owner;

--
-- Name: FUNCTION new_secret(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.new_secret() IS 'Returns whsec_ and 32 random bytes in base64. The bytes are the SHA-256 of 366 random bits.';


--
-- Name: next_due_in_ms(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.next_due_in_ms() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  select case
    when exists (select from collecta.outbox) or first.due_at <= clock_timestamp() then 0
    else ceil(extract(epoch from first.due_at - clock_timestamp()) * 1000)
  end::bigint
  from (
    select min(greatest(q.due_at, f.held_until)) as due_at
    from collecta.endpoints e
    left join collecta.endpoint_flow f on f.endpoint_id = e.endpoint_id
    cross join lateral (
      select q.due_at from collecta.delivery_queue q
      where q.endpoint_id = e.endpoint_id and q.due_at < 'infinity'
      order by q.due_at limit 1) q
    where e.state = 'active') first
$$;


ALTER FUNCTION collecta.next_due_in_ms() OWNER TO collecta_owner;

--
-- Name: FUNCTION next_due_in_ms(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.next_due_in_ms() IS 'For runners that close their sessions while nothing is due: returns after how many milliseconds something will be due. 0 if something is due already, also if another runner has it; null if nothing is queued.';


--
-- Name: next_inbound_retries(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.next_inbound_retries() RETURNS TABLE(request_id text, inbound_endpoint_id text, body text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  select r.request_id, r.inbound_endpoint_id, r.body
  from collecta.inbound_requests r
  where r.state = 'retry'
  order by r.received_at
  limit 10
$$;


ALTER FUNCTION collecta.next_inbound_retries() OWNER TO collecta_owner;

--
-- Name: FUNCTION next_inbound_retries(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.next_inbound_retries() IS 'For the receiving process: kept requests to run again. Several processes may get the same ones; receive_inbound runs each once.';


--
-- Name: note_action(text, bigint); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.note_action(statement text, touched bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  insert into collecta.operator_actions (done_by, login, statement, touched)
  values (collecta.acting_role(), session_user, note_action.statement, note_action.touched)
$$;


ALTER FUNCTION collecta.note_action(statement text, touched bigint) OWNER TO collecta_owner;

--
-- Name: FUNCTION note_action(statement text, touched bigint); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.note_action(statement text, touched bigint) IS 'Writes a statement of the caller into collecta.operator_actions, in the same transaction as the statement itself.';


--
-- Name: note_failures(text[], text[], timestamp with time zone[], text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  present constant timestamptz := clock_timestamp();
begin
  if failing is not null or held is not null then
    insert into collecta.endpoint_flow (endpoint_id, failing_since)
    select id, present from unnest(failing || held) id
    on conflict on constraint endpoint_flow_pkey do nothing;
    update collecta.endpoint_flow f
    set failing_since = coalesce(f.failing_since, present),
      -- An outage: one request at a time until one succeeds.
      pace = case when f.failing_since < present - interval '10 s' then 1 else f.pace end
    where f.endpoint_id in (
      select l.endpoint_id from collecta.endpoint_flow l
      where l.endpoint_id = any (failing)
        and (l.failing_since is null or l.pace is distinct from 1 and l.failing_since < present - interval '10 s')
      order by l.endpoint_id for update skip locked);
  end if;
  if held is not null then
    update collecta.endpoint_flow f
    set held_until = greatest(f.held_until, h.held_until),
      pace = 1, paced_at = present,
      -- Answers that arrive during a hold belong to it. A hold that begins within 10 s of the last one shows what the
      -- receiver takes: what was delivered in between. A later hold lowers the learned rate by a fifth. If nothing more
      -- was due, or nothing was delivered since the last hold, the receiver did not refuse the rate.
      learned_per_second = case
        when f.held_until > present or f.delivered_since_hold = 0 or not exists (
            select from collecta.delivery_queue q
            where q.endpoint_id = h.id and q.due_at <= present and q.leased_until is null)
          then f.learned_per_second
        when f.held_at > present - interval '10 s'
          then greatest(f.delivered_since_hold / greatest(extract(epoch from present - f.held_at), 0.1), 1)
        when f.learned_per_second > 1.25 then f.learned_per_second * 0.8
        else f.learned_per_second end,
      delivered_since_hold = case when f.held_until > present then f.delivered_since_hold else 0 end,
      held_at = case when f.held_until > present then f.held_at else present end,
      raised_at = present
    from (select id, max(until) as held_until from unnest(held, note_failures.held_until) h (id, until) group by id) h
    where f.endpoint_id = h.id
      and f.endpoint_id in (select l.endpoint_id from collecta.endpoint_flow l where l.endpoint_id = any (held)
        order by l.endpoint_id for update skip locked);
  end if;
  if gone is not null then
    update collecta.endpoints e set state = 'paused', paused_reason = 'the receiver answered 410 Gone'
    where e.endpoint_id in (select l.endpoint_id from collecta.endpoints l
      where l.endpoint_id = any (gone) and l.state = 'active'
      order by l.endpoint_id for update skip locked);
  end if;
end
$$;


ALTER FUNCTION collecta.note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]) IS 'Keeps endpoint_flow for endpoints that fail or are held by Retry-After, and learns the rate that a receiver takes. Pauses endpoints whose receiver answered 410.';


--
-- Name: note_successes(text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.note_successes(succeeded text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'on'
    AS $$
declare
  present constant timestamptz := clock_timestamp();
begin
  update collecta.endpoint_flow f
  set failing_since = null,
    delivered_since_hold = f.delivered_since_hold + s.deliveries,
    -- The pace begins at one request and doubles every half second, until max_in_flight is the limit again.
    pace = case when f.paced_at > present - interval '0.5 s' then f.pace
      when f.pace * 2 < e.max_in_flight then f.pace * 2 end,
    paced_at = case when f.paced_at > present - interval '0.5 s' then f.paced_at else present end,
    -- A learned rate is raised every ten seconds: by a tenth, or to the double if the last hold was more than a minute
    -- ago. From 1,000 on it is no limit any more.
    learned_per_second = case when f.raised_at > present - interval '10 s' then f.learned_per_second
      else nullif(least(1000,
        f.learned_per_second * case when f.held_at > present - interval '1 minute' then 1.1 else 2 end), 1000) end,
    raised_at = case when f.raised_at > present - interval '10 s' then f.raised_at else present end
  from (select endpoint_id, count(*) as deliveries from unnest(succeeded) endpoint_id group by endpoint_id) s,
    collecta.endpoints e
  where f.endpoint_id = s.endpoint_id and e.endpoint_id = s.endpoint_id
    and f.endpoint_id in (
      select l.endpoint_id from collecta.endpoint_flow l
      where l.endpoint_id = any (succeeded)
        and (l.failing_since is not null or l.pace is not null or l.learned_per_second is not null
          or l.held_at > present - interval '10 s')
      order by l.endpoint_id for update skip locked);
end
$$;


ALTER FUNCTION collecta.note_successes(succeeded text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION note_successes(succeeded text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.note_successes(succeeded text[]) IS 'Keeps endpoint_flow for endpoints that succeeded, named once for each delivery: they no longer fail, their pace rises after an outage, and so does a learned rate.';


--
-- Name: notifies(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.notifies() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(
    nullif(current_setting('collecta.notify', true), '') <> 'off',
    (select notify from collecta.settings),
    current_setting('max_prepared_transactions')::int = 0)
$$;


ALTER FUNCTION collecta.notifies() OWNER TO collecta_owner;

--
-- Name: FUNCTION notifies(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.notifies() IS 'Whether writers may NOTIFY: the session''s setting collecta.notify if it is set, else settings.notify if it is not null, else whether max_prepared_transactions is 0.';


--
-- Name: observe(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.observe() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET enable_sort TO 'off'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  counted_from timestamptz;
  counted_to timestamptz;
begin
  if not pg_try_advisory_xact_lock(1668246636, 20) then
    return false;
  end if;
  select o.counted_until into counted_from from collecta.observation o;
  -- After a long pause it counts one hour per call.
  counted_to := least(date_trunc('milliseconds', clock_timestamp()) - interval '15 s',
    counted_from + interval '1 hour');
  if counted_to <= counted_from then
    return false;
  end if;
  -- These expressions are evaluated for each attempt, so they must be cheap. date_part returns float8; extract would
  -- compute in numeric. OFFSET 0 keeps the receipt's milliseconds from being computed once for each time that
  -- latency_step names them.
  with counted as materialized (
    select m.endpoint_id, m.minute, m.outcome, collecta.latency_step(m.answer_ms) as answer_step,
      collecta.latency_step(m.receipt_ms) as receipt_step, count(*) as attempts
    from (
      select a.endpoint_id, date_bin('1 minute', a.finished_at, 'epoch') as minute, a.outcome,
        a.total_ms as answer_ms,
        case when a.outcome = 'delivered' and octet_length(a.event_id) = 36
          then date_part('epoch', a.finished_at) * 1000 - ('x' || substr(a.event_id, 5, 12))::bit(48)::bigint
          end as receipt_ms
      from collecta.delivery_attempts a
      where a.id >= collecta.attempt_id_at(counted_from) and a.id < collecta.attempt_id_at(counted_to)
      offset 0) m
    group by 1, 2, 3, 4, 5
  ), whole as materialized (
    select c.endpoint_id, c.minute, c.outcome, c.answer_step, c.receipt_step, c.attempts from counted c
    union all
    select '', c.minute, c.outcome, c.answer_step, c.receipt_step, sum(c.attempts) from counted c group by 2, 3, 4, 5
  ), outcomes as (
    select w.endpoint_id, w.minute,
      coalesce(sum(w.attempts) filter (where w.outcome = 'delivered'), 0) as delivered,
      coalesce(sum(w.attempts) filter (where w.outcome = 'failed'), 0) as failed,
      coalesce(sum(w.attempts) filter (where w.outcome = 'exhausted'), 0) as exhausted,
      coalesce(sum(w.attempts) filter (where w.outcome = 'blocked'), 0) as blocked,
      coalesce(sum(w.attempts) filter (where w.outcome = 'lost'), 0) as lost
    from whole w group by 1, 2
  ), answers as (
    select s.endpoint_id, s.minute, jsonb_object_agg(s.step, s.n) as counts
    from (select w.endpoint_id, w.minute, w.answer_step as step, sum(w.attempts) as n from whole w
      where w.answer_step >= 0 group by 1, 2, 3) s
    group by 1, 2
  ), receipts as (
    select s.endpoint_id, s.minute, jsonb_object_agg(s.step, s.n) as counts
    from (select w.endpoint_id, w.minute, w.receipt_step as step, sum(w.attempts) as n from whole w
      where w.receipt_step >= 0 group by 1, 2, 3) s
    group by 1, 2
  )
  insert into collecta.delivery_rollup as r
    (endpoint_id, starts_at, delivered, failed, exhausted, blocked, lost, answers, receipts)
  select o.endpoint_id, o.minute, o.delivered, o.failed, o.exhausted, o.blocked, o.lost, coalesce(a.counts, '{}'),
    coalesce(p.counts, '{}')
  from outcomes o
  left join answers a on a.endpoint_id = o.endpoint_id and a.minute = o.minute
  left join receipts p on p.endpoint_id = o.endpoint_id and p.minute = o.minute
  on conflict on constraint delivery_rollup_pkey do update
    set delivered = r.delivered + excluded.delivered, failed = r.failed + excluded.failed,
      exhausted = r.exhausted + excluded.exhausted, blocked = r.blocked + excluded.blocked,
      lost = r.lost + excluded.lost,
      answers = collecta.add_counts(r.answers, excluded.answers),
      receipts = collecta.add_counts(r.receipts, excluded.receipts);
  perform collecta.raise_alerts(counted_from, counted_to);
  perform collecta.fold_rollup(counted_to);
  update collecta.observation o set counted_until = counted_to;
  return counted_to < clock_timestamp() - interval '1 minute';
end
$$;


ALTER FUNCTION collecta.observe() OWNER TO collecta_owner;

--
-- Name: FUNCTION observe(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.observe() IS 'Adds the attempts recorded since the last call to collecta.delivery_rollup, and sends alerts. Runners call it once a minute. Returns true if there is more to count; then call it again.';


--
-- Name: omitted_columns(oid, text[], smallint[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.omitted_columns(relation oid, names text[], numbers smallint[]) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return names
    || array(select collecta.column_name(relation, number) from unnest(numbers) number
             where collecta.column_name(relation, number) is not null)
    || array(select a.attname::text from pg_catalog.pg_attribute a
             where a.attrelid = relation and a.attgenerated = 'v' and not a.attisdropped);
exception when others then
  return names;
end
$$;


ALTER FUNCTION collecta.omitted_columns(relation oid, names text[], numbers smallint[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION omitted_columns(relation oid, names text[], numbers smallint[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.omitted_columns(relation oid, names text[], numbers smallint[]) IS 'Returns the columns that are left out of captured rows: the excluded ones by name and by number, so that neither a rename nor a new column with the same name reveals one, and virtual generated columns, whose values a trigger cannot see.';


--
-- Name: output_settings(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.output_settings(relation oid) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(array_agg(distinct setting collate "C" order by setting collate "C"), '{}')
  from pg_catalog.pg_attribute a
  cross join lateral (select collecta.element_type(a.atttypid)::regtype as id) type
  cross join lateral unnest(case
    when type.id = any ('{bool,int2,int4,int8,oid,numeric,text,varchar,bpchar,"char",name,uuid,json,jsonb,date,'
      'timestamp,time,inet,cidr,macaddr,macaddr8,bit,varbit,tsvector,tsquery,int4range,int8range,numrange}'::regtype[])
      then '{}'
    when (select t.typtype = 'e' from pg_catalog.pg_type t where t.oid = type.id) then '{}'
    when type.id = 'timestamptz'::regtype then '{TimeZone}'
    when type.id = 'interval'::regtype then '{IntervalStyle}'
    when type.id = 'bytea'::regtype then '{bytea_output}'
    when type.id = any ('{float4,float8}'::regtype[]) then '{extra_float_digits}'
    when type.id = 'money'::regtype then '{lc_monetary}'
    else array(select jsonb_object_keys(collecta.pinned_settings())) end::text[]) setting
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;


ALTER FUNCTION collecta.output_settings(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION output_settings(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.output_settings(relation oid) IS 'Returns the settings on which the text of a table''s values depends.';


--
-- Name: own_function(regprocedure, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.own_function(function_id regprocedure, owner_name text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select collecta.own_functions(array[function_id], owner_name)
$$;


ALTER FUNCTION collecta.own_function(function_id regprocedure, owner_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION own_function(function_id regprocedure, owner_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.own_function(function_id regprocedure, owner_name text) IS 'Calls own_functions for one function.';


--
-- Name: own_functions(regprocedure[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.own_functions(functions regprocedure[], owner_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  written regprocedure;
  namespaces text[]; -- quoted
  owner constant name := collecta.written_owner(owner_name);
  foreign_ones constant regprocedure[] := array(
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.oid = any (functions::oid[]) and p.proowner <> to_regrole(quote_ident(owner))::oid);
begin
  foreach written in array functions loop
    perform collecta.revoke_execute(written);
  end loop;
  if foreign_ones <> '{}' and owner <> current_user then
    select array_agg(distinct quote_ident(n.nspname)) into namespaces
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.oid = any (foreign_ones::oid[]);
    execute format('grant create on schema %s to %I', array_to_string(namespaces, ', '), owner);
    foreach written in array foreign_ones loop
      execute format('alter function %s owner to %I', written, owner);
    end loop;
    execute format('revoke create on schema %s from %I', array_to_string(namespaces, ', '), owner);
  end if;
end
$$;


ALTER FUNCTION collecta.own_functions(functions regprocedure[], owner_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION own_functions(functions regprocedure[], owner_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.own_functions(functions regprocedure[], owner_name text) IS 'Makes a least-privileged role the owner of generated functions, if that role exists, and revokes EXECUTE from all others.';


--
-- Name: own_views(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.own_views() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  viewer constant name := collecta.role_name('collecta_viewer');
  views constant text[] := array(
    select format('collecta.%I', c.relname) from pg_catalog.pg_class c
    where c.relnamespace = 'collecta'::regnamespace and c.relkind = 'v'
      and c.relname = any (collecta.walled_views()) and c.relowner is distinct from to_regrole(quote_ident(viewer)));
  view_name text;
begin
  if views = '{}' or to_regrole(quote_ident(viewer)) is null or not pg_has_role(current_user, viewer, 'usage') then
    return;
  end if;
  -- A new owner needs CREATE on the schema while it becomes one.
  execute format('grant create on schema collecta to %I', viewer);
  foreach view_name in array views loop
    execute format('alter view %s owner to %I', view_name, viewer);
  end loop;
  execute format('revoke create on schema collecta from %I', viewer);
end
$$;


ALTER FUNCTION collecta.own_views() OWNER TO collecta_owner;

--
-- Name: FUNCTION own_views(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.own_views() IS 'Hands collecta.walled_views() to collecta_viewer, where that role exists.';


--
-- Name: pause_endpoint(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.pause_endpoint(endpoint_id text, reason text DEFAULT 'by request'::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(pause_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'paused', paused_reason = coalesce(reason, 'by request')
  where e.endpoint_id = pause_endpoint.endpoint_id;
end
$$;


ALTER FUNCTION collecta.pause_endpoint(endpoint_id text, reason text) OWNER TO collecta_owner;

--
-- Name: FUNCTION pause_endpoint(endpoint_id text, reason text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.pause_endpoint(endpoint_id text, reason text) IS 'Stops deliveries to an endpoint. New events for it wait in the queue.';


--
-- Name: pause_inbound_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.pause_inbound_endpoint(inbound_endpoint_id text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  select collecta.set_inbound_state(inbound_endpoint_id, 'paused')
$$;


ALTER FUNCTION collecta.pause_inbound_endpoint(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION pause_inbound_endpoint(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.pause_inbound_endpoint(inbound_endpoint_id text) IS 'The URL answers 404, as if it were not there, until resume_inbound_endpoint.';


--
-- Name: pick_columns(json, text[], boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.pick_columns(document json, columns text[], keep boolean) RETURNS json
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select ('{' || coalesce(collecta.unmask_escapes(
      string_agg(to_json(key)::text || ':' || value::text, ',')), '') || '}')::json
  from json_each(collecta.mask_escapes(document))
  where (key = any (columns)) = keep
$$;


ALTER FUNCTION collecta.pick_columns(document json, columns text[], keep boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION pick_columns(document json, columns text[], keep boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.pick_columns(document json, columns text[], keep boolean) IS 'Returns a row with only these columns (keep), or without them. The text of the other columns does not change.';


--
-- Name: pinned_settings(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.pinned_settings() RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select jsonb '{"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "bytea_output": "hex",
    "extra_float_digits": "1", "lc_monetary": "C", "quote_all_identifiers": "off", "xmlbinary": "base64"}'
$$;


ALTER FUNCTION collecta.pinned_settings() OWNER TO collecta_owner;

--
-- Name: FUNCTION pinned_settings(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.pinned_settings() IS 'Returns all settings on which the text of a value can depend, with the values that they have in capture.';


--
-- Name: pin_output_settings(jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.pin_output_settings(settings jsonb DEFAULT collecta.pinned_settings()) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  before constant jsonb := (
    select jsonb_object_agg(name, current_setting(name)) from jsonb_object_keys(settings) name);
begin
  perform set_config(name, value, true) from jsonb_each_text(settings) setting (name, value);
  return before;
end
$$;


ALTER FUNCTION collecta.pin_output_settings(settings jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION pin_output_settings(settings jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.pin_output_settings(settings jsonb) IS 'Sets what pinned_settings returns until the end of the transaction, and returns the previous values. Called with these it restores them.';


--
-- Name: placed_shards(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.placed_shards(relation regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- Citus shortens a long table name before it appends the shard's number; such a shard is found by its number alone.
  select coalesce(
    to_regclass(format('%s.%I', c.relnamespace::regnamespace, c.relname || '_' || s.shard_id)),
    (select l.oid from pg_catalog.pg_class l
     where l.relnamespace = c.relnamespace and l.relkind = c.relkind
       and right(l.relname, length(s.shard_id::text) + 1) = '_' || s.shard_id limit 1)::regclass)
  from collecta.shards_of(relation) s
  join pg_catalog.pg_class c on c.oid = relation
  where s.is_here
$$;


ALTER FUNCTION collecta.placed_shards(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION placed_shards(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.placed_shards(relation regclass) IS 'Returns the shards of a distributed table on this node. It returns null for a shard that is placed here but does not exist.';


--
-- Name: plain_predicate(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.plain_predicate(predicate text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select regexp_replace(case when predicate ~ '[''"]' then predicate else lower(predicate collate "C") end,
    '[[:space:]()]|::[a-z_ ]+', '', 'g')
$$;


ALTER FUNCTION collecta.plain_predicate(predicate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION plain_predicate(predicate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.plain_predicate(predicate text) IS 'A predicate without what PostgreSQL adds when it prints one, to compare two by their text.';


--
-- Name: plan_dependencies(text[], oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.plan_dependencies(called text[], relation oid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return format('%L::regclass = 0', 'collecta.outbox')
    || coalesce((
      select string_agg(format(' or %L::regclass = 0', m.relid::oid), '' order by m.relid::oid)
      from collecta.module_members(relation) m
      join pg_catalog.pg_class c on c.oid = m.relid
      where m.relid = relation or c.relkind = 'p'), '')
    || coalesce((
      select string_agg(format(E'\n      or %s(%s) is null', p.oid::regproc, (
          select string_agg('null::' || format_type(type, null), ', ') from unnest(p.proargtypes) type)), '')
      from unnest(called) name
      join pg_catalog.pg_proc p on p.oid = name::regproc), '');
end
$$;


ALTER FUNCTION collecta.plan_dependencies(called text[], relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION plan_dependencies(called text[], relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.plan_dependencies(called text[], relation oid) IS 'Returns a condition that is never computed, but names these functions, the outbox, and the tables of a module that have partitions: after a change of one of them, PostgreSQL plans a statement with this condition again.';


--
-- Name: promote_next(text[], bigint[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.promote_next(endpoint_ids text[], record_keys bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'on'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  promoted int;
  -- All rows get the same time, so they are sent in the order of their changes.
  present constant timestamptz := clock_timestamp();
begin
  -- This is a new statement, so its snapshot no longer has the rows that were finished before it.
  with first_row as materialized (
    select n.delivery_id
    from (select distinct endpoint_id, record_key from unnest(endpoint_ids, record_keys) r (endpoint_id, record_key)) r
    cross join lateral (
      select n.delivery_id, n.due_at, n.change_id, n.position from collecta.delivery_queue n
      where n.endpoint_id = r.endpoint_id and n.record_key = r.record_key
      order by n.change_id, n.position limit 1
      -- A first row that record_deliveries is deleting is skipped, and the next one becomes due; claim_due checks
      -- whether the first one is gone. Any other first row is locked until this transaction ends. Whoever deletes it
      -- after that sees the rows of this transaction and makes them due.
      for key share skip locked) n
    where n.due_at = 'infinity'
      and not exists (select from collecta.unrouted u
        where u.record_key = r.record_key and u.endpoint_id in ('', r.endpoint_id)
          and (u.change_id, u.position) < (n.change_id, n.position))
  )
  update collecta.delivery_queue q
  set due_at = present
  where q.delivery_id in (
    select l.delivery_id from collecta.delivery_queue l
    where l.delivery_id in (select f.delivery_id from first_row f) and l.due_at = 'infinity'
    -- A row that another session has locked is skipped. It becomes due when this is called again.
    for update skip locked);
  get diagnostics promoted = row_count;
  return promoted;
end
$$;


ALTER FUNCTION collecta.promote_next(endpoint_ids text[], record_keys bigint[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION promote_next(endpoint_ids text[], record_keys bigint[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.promote_next(endpoint_ids text[], record_keys bigint[]) IS 'Makes the first queue row of each of these records due, unless an earlier change of the record is set aside.';


--
-- Name: put_in_order(bigint, bigint[], integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.put_in_order(from_change bigint, changes_key bigint[] DEFAULT NULL::bigint[], only_module integer DEFAULT NULL::integer) RETURNS pg_snapshot
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    SET enable_seqscan TO 'on'
    SET enable_hashjoin TO 'on'
    SET enable_mergejoin TO 'on'
    SET jit TO 'off'
    AS $$
declare
  most constant int := 5000;
  seen constant pg_snapshot := pg_current_snapshot();
  left_out int[] := array(select r.module_id from collecta.reorderings r where r.ended_in is null);
begin
  with change as materialized (
    select o.change_id, o.transaction_id, o.trigger_depth, v.module_id, v.key_columns
    from collecta.outbox o
    join collecta.module_versions v on v.version = o.version
    where o.change_id >= from_change and o.operation in ('I', 'U', 'D')
      and case when only_module is null then v.module_id <> all (left_out) else v.module_id = only_module end
  ), found as (
    -- What has to be put in order: the changes of one transaction to one module.
    select c.transaction_id, c.module_id, count(*) as changes, min(c.change_id) as first_change
    from change c
    group by c.transaction_id, c.module_id
    having count(distinct c.trigger_depth) > 1 or bool_or(c.change_id = any (changes_key)) or only_module is not null
  ), noted as (
    insert into collecta.reorderings (module_id)
    select distinct f.module_id from found f where f.changes > most and only_module is null
    on conflict on constraint reorderings_pkey do update set since = clock_timestamp(), ended_in = null
    returning module_id
  ), irregular as (
    -- The same without the noted modules. before is the number of changes in front of each.
    select f.*, sum(f.changes) over (order by f.first_change, f.module_id) - f.changes as before
    from found f
    where f.module_id not in (select n.module_id from noted n)
  ), read_change as (
    select c.*, o.operation, o.captured_at, k.old_id, k.new_id,
      case when o.old is null then 0 else hashtextextended(o.old::text, 0) end as from_state,
      case when o.new is null then 0 else hashtextextended(o.new::text, 0) end as to_state
    from irregular i
    join change c on c.transaction_id = i.transaction_id and c.module_id = i.module_id
    join collecta.outbox o on o.change_id = c.change_id
    cross join lateral collecta.record_ids(o.old, o.new, c.key_columns) k
    where i.before < most or only_module is not null
  ), changed_key as (
    select c.change_id, c.transaction_id, c.module_id, c.captured_at, row_number() over in_statement as number,
      count(*) over (partition by c.transaction_id, c.module_id, c.captured_at) as of_statement
    from read_change c
    where c.old_id <> c.new_id
    window in_statement as (partition by c.transaction_id, c.module_id, c.captured_at order by c.change_id)
  ), step as (
    -- What leads a record from one state to the next: a change, or one half of a changed key. slot is a free number.
    select c.transaction_id, c.module_id, c.trigger_depth, s.*,
      lag(s.to_state) over (partition by c.transaction_id, c.module_id, s.record_id order by s.slot)
        <> s.from_state as broken
    from (
      select c.change_id, c.operation, coalesce(c.new_id, c.old_id) as record_id, c.change_id as slot,
        c.from_state, c.to_state
      from read_change c
      where (c.old_id <> c.new_id) is not true
      union all
      -- An update of a key has two numbers. Of all numbers of its statement, the deletions get the first half and the
      -- creations the second.
      select k.change_id, d.operation, case d.operation when 'D' then c.old_id else c.new_id end,
        s.change_id + (d.number + 1) % 2, case d.operation when 'D' then c.from_state else 0 end,
        case d.operation when 'D' then 0 else c.to_state end
      from changed_key k
      join read_change c on c.change_id = k.change_id
      cross join lateral (
        values ('D'::collecta.operation, k.number),
          ('I'::collecta.operation, k.of_statement + k.number)) d (operation, number)
      join changed_key s on s.transaction_id = k.transaction_id and s.module_id = k.module_id
        and s.captured_at = k.captured_at and s.number = (d.number + 1) / 2) s
    join read_change c on c.change_id = s.change_id
  ), placed as (
    -- The number that each step gets. path is the order of a record's steps; null if it is that of the outbox.
    select p.*
    from (
      select array_agg(s.change_id order by s.slot) as change_ids, array_agg(s.operation order by s.slot) as operations,
        array_agg(s.slot order by s.slot) as slots,
        case
          when s.record_id is null or not bool_or(s.broken)
            and (array_agg(s.trigger_depth order by s.slot))[1] = min(s.trigger_depth) then null
          -- Usually there are two: what a trigger changed, and then the statement that fired it.
          when count(*) = 2 and (array_agg(s.to_state order by s.slot))[2]
              = (array_agg(s.from_state order by s.slot))[1]
            then '{2,1}'::int[]
          when count(*) > 2
            then collecta.chain_changes(array_agg(s.from_state order by s.slot), array_agg(s.to_state order by s.slot),
              array_agg(s.trigger_depth order by s.slot)) end as path,
        bool_or(s.trigger_depth > 1) as nested
      from step s
      group by s.transaction_id, s.module_id, s.record_id) g
    cross join lateral (
      select g.slots[t.place] as slot, g.change_ids[t.i] as change_id, g.operations[t.i] as operation, g.nested
      from unnest(coalesce(g.path, array(select i from generate_subscripts(g.slots, 1) i)))
        with ordinality t (i, place)) p
  ), gone as (
    delete from collecta.outbox o
    using (select distinct p.change_id from placed p where p.nested or p.slot <> p.change_id) p
    where o.change_id = p.change_id
    returning o.*
  )
  insert into collecta.outbox (change_id, version, operation, old, new,
    transaction_id, trigger_depth, captured_at, context, traceparent)
  overriding system value
  select p.slot, g.version, p.operation,
    case when p.operation <> 'I' then g.old end, case when p.operation <> 'D' then g.new end,
    g.transaction_id, 1, g.captured_at, g.context, g.traceparent
  from gone g
  join placed p on p.change_id = g.change_id
  -- The sort makes all rows be deleted before the first one is inserted with a number that was used.
  order by p.slot;

  if only_module is not null then
    return null;
  end if;
  left_out := array(select r.module_id from collecta.reorderings r where r.ended_in is null);
  perform
  from collecta.outbox o
  join collecta.module_versions v on v.version = o.version
  where o.change_id >= from_change and o.operation in ('I', 'U', 'D') and v.module_id <> all (left_out)
  group by o.transaction_id, v.module_id
  having count(distinct o.trigger_depth) > 1
  limit 1;
  return case when not found then seen end;
end
$$;


ALTER FUNCTION collecta.put_in_order(from_change bigint, changes_key bigint[], only_module integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION put_in_order(from_change bigint, changes_key bigint[], only_module integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.put_in_order(from_change bigint, changes_key bigint[], only_module integer) IS 'Rewrites the outbox from from_change on, where its order is not that of the changes. changes_key names updates of keys that were found; their transactions are looked at too. With only_module all changes of that module are put in order, however many there are. Returns a snapshot: the changes that are visible in it are in order. Null if there was more to put in order than one call does.';


--
-- Name: put_module_in_order(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.put_module_in_order() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
declare
  module_id int;
begin
  if not pg_try_advisory_xact_lock(1668246636, 10) then
    return null;
  end if;
  select r.module_id into module_id from collecta.reorderings r where r.ended_in is null order by r.since limit 1;
  if module_id is not null then
    perform collecta.put_in_order(0, only_module => module_id);
    -- A router may have noted in the meantime that all changes it saw are in order. By ended_in it knows that they were
    -- not.
    update collecta.reorderings r set ended_in = pg_current_xact_id() where r.module_id = module_id;
    perform collecta.wake_runner();
  end if;
  return module_id;
end
$$;


ALTER FUNCTION collecta.put_module_in_order() OWNER TO collecta_owner;

--
-- Name: FUNCTION put_module_in_order(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.put_module_in_order() IS 'For runners, beside their claims: puts the changes of one module in collecta.reorderings in order, which may take minutes. Returns the number of the module, or null if no module waits or another session is doing this.';


--
-- Name: queue_replays(text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.queue_replays(ids text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  queued int;
begin
  insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, payload_role, routed_at, due_at,
    record_key, bytes, replay_of)
  select r.sequence, r.position, r.endpoint_id, r.event_id, r.payload_role, r.routed_at,
    -- Of an ordered record, the first row is due if nothing of the record is queued. Rows that are queued are not
    -- locked. If one of them is deleted meanwhile, mend_queue makes the waiting row due.
    case when r.record_key is not null and (r.number > 1 or exists (
        select from collecta.delivery_queue q where q.endpoint_id = r.endpoint_id and q.record_key = r.record_key))
      then 'infinity' else clock_timestamp() end,
    r.record_key, r.bytes, r.id
  from (
    select r.*, row_number() over (partition by r.endpoint_id, r.record_key order by r.sequence, r.position) as number
    from (
      select a.id, a.endpoint_id, v.event_id, v.payload_role, v.routed_at, v.sequence, v.position,
        octet_length(v.body) as bytes,
        case when e.ordered then collecta.record_key(v.module, v.record_id) end as record_key
      from collecta.delivery_attempts a
      join collecta.endpoints e on e.endpoint_id = a.endpoint_id
      join collecta.events v
        on v.event_id = a.event_id and v.payload_role = a.payload_role and v.routed_at = a.routed_at
      where a.id = any (ids) and e.state <> 'deleted') r) r;
  get diagnostics queued = row_count;
  return queued;
end
$$;


ALTER FUNCTION collecta.queue_replays(ids text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION queue_replays(ids text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.queue_replays(ids text[]) IS 'Queues the events of these attempts again, and returns how many.';


--
-- Name: raise_alerts(timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  first_id constant text := collecta.attempt_id_at(counted_from);
  last_id constant text := collecta.attempt_id_at(counted_to);
  wait constant interval := (select alert_interval from collecta.settings);
  present constant timestamptz := clock_timestamp();
  -- More alerts than this of one event at once become one, so that an outage of ten thousand receivers does not cause
  -- ten thousand webhooks.
  apart constant int := 20;
  alert record;
begin
  if not exists (select from collecta.endpoints e
      where e.state <> 'deleted' and e.events && collecta.alert_events()) then
    return;
  end if;
  delete from collecta.alerts a using collecta.endpoints e
  where a.kind in ('endpoint', 'delivery', 'queue') and e.endpoint_id = a.subject and e.state = 'deleted';

  -- An endpoint is paused, or failing once a delivery has used half of its retries, or well again with the first
  -- success after that. A lost attempt says nothing about its endpoint, since it was the runner that vanished.
  insert into collecta.alerts as a (kind, subject, state, detail)
  select 'endpoint', c.endpoint_id, c.state,
    jsonb_build_object('endpoint_id', c.endpoint_id, 'name', c.name, 'state', c.state, 'reason', c.paused_reason)
  from (
    select e.endpoint_id, e.name, e.paused_reason,
      case when e.state = 'paused' then 'paused'
        when bad.id > coalesce(good.id, '') then 'failing'
        when good.id is not null then 'well' end as state
    from collecta.endpoints e
    left join lateral (
      select max(f.id) as id from collecta.delivery_attempts f
      where f.endpoint_id = e.endpoint_id and f.id >= first_id and f.id < last_id and f.outcome <> 'delivered'
        and f.outcome <> 'lost' and f.attempt >= greatest(1, ceil(e.retry_max / 2.0))) bad on true
    left join lateral (
      select d.id from collecta.delivery_attempts d
      where d.endpoint_id = e.endpoint_id and d.id >= first_id and d.id < last_id and d.outcome = 'delivered'
      order by d.id desc limit 1) good on true
    where e.state = 'paused'
      or e.state = 'active' and (
        exists (select from collecta.alerts k
          where k.kind = 'endpoint' and k.subject = e.endpoint_id and k.state <> 'well')
        or e.endpoint_id in (select f.endpoint_id from collecta.delivery_attempts f
          where f.id >= first_id and f.id < last_id and f.outcome <> 'delivered'))
  ) c
  where c.state is not null
  on conflict on constraint alerts_pkey do update set state = excluded.state, detail = excluded.detail
  where a.state <> excluded.state;

  -- Counts what happened. There is no alert about an alert that was given up.
  insert into collecta.alerts as a (kind, subject, pending, detail)
  select 'delivery', f.endpoint_id, count(*),
    jsonb_build_object('endpoint_id', f.endpoint_id, 'name', min(e.name), 'last_event_id', max(f.event_id))
  from collecta.delivery_attempts f
  join collecta.events v on v.event_id = f.event_id and v.payload_role = f.payload_role and v.routed_at = f.routed_at
  join collecta.endpoints e on e.endpoint_id = f.endpoint_id
  where f.id >= first_id and f.id < last_id and f.outcome = 'exhausted'
    and v.event <> all (collecta.alert_events())
  group by f.endpoint_id
  on conflict on constraint alerts_pkey do update set pending = a.pending + excluded.pending, detail = excluded.detail;

  insert into collecta.alerts as a (kind, subject, pending, detail)
  select 'change', u.module, count(*), jsonb_build_object('module', u.module)
  from collecta.unrouted u where u.set_aside_at >= counted_from and u.set_aside_at < counted_to group by u.module
  on conflict on constraint alerts_pkey do update set pending = a.pending + excluded.pending, detail = excluded.detail;

  insert into collecta.alerts as a (kind, subject, pending, detail)
  select 'inbound', e.inbound_endpoint_id, f.n,
    jsonb_build_object('inbound_endpoint_id', e.inbound_endpoint_id, 'module', e.module)
  from collecta.inbound_endpoints e
  cross join lateral (
    select count(*) as n from collecta.inbound_requests r
    where r.inbound_endpoint_id = e.inbound_endpoint_id and r.state = 'failed'
      and r.received_at >= counted_from and r.received_at < counted_to) f
  where e.state <> 'deleted' and f.n > 0
  on conflict on constraint alerts_pkey do update set pending = a.pending + excluded.pending, detail = excluded.detail;

  -- Finds what waits too long: a delivery of an active endpoint that is due for five minutes, or a change that is not
  -- routed for a minute.
  insert into collecta.alerts as a (kind, subject, state, detail)
  select 'queue', s.subject, 'stale', s.detail
  from (
    select e.endpoint_id as subject,
      jsonb_build_object('endpoint_id', e.endpoint_id, 'name', e.name, 'due_since', q.due_at) as detail
    from collecta.endpoints e
    cross join lateral (select q.due_at from collecta.delivery_queue q
      where q.endpoint_id = e.endpoint_id order by q.due_at limit 1) q
    where e.state = 'active' and q.due_at < counted_to - interval '5 minutes'
    union all
    select '', jsonb_build_object('waiting', 'outbox', 'captured_at', o.captured_at)
    from (select captured_at from collecta.outbox order by change_id limit 1) o
    where o.captured_at < counted_to - interval '1 minute'
  ) s
  on conflict on constraint alerts_pkey do update set state = 'stale', detail = excluded.detail
    where a.state <> 'stale';
  update collecta.alerts a set state = 'well'
  where a.kind = 'queue' and a.state = 'stale'
    and not exists (select from collecta.delivery_queue q
      where q.endpoint_id = a.subject and q.due_at < counted_to - interval '5 minutes')
    and (a.subject <> '' or not exists (
      select from (select captured_at from collecta.outbox order by change_id limit 1) o
      where o.captured_at < counted_to - interval '1 minute'));

  for alert in
    with told as (
      update collecta.alerts a
      set sent_state = a.state, pending = 0,
        sent = case when c.event is null then a.sent else a.sent || jsonb_build_object(c.event, present) end
      from (
        select k.kind, k.subject, k.pending,
          case k.kind
            when 'endpoint' then case k.state when 'well' then 'endpoint.recovered' else 'endpoint.' || k.state end
            when 'delivery' then 'delivery.exhausted' when 'change' then 'change.set_aside'
            when 'inbound' then 'inbound.failing'
            when 'queue' then case k.state when 'stale' then 'queue.stale' end end as event
        from collecta.alerts k where k.state <> k.sent_state or k.pending > 0) c
      where a.kind = c.kind and a.subject = c.subject
        and coalesce((a.sent ->> c.event)::timestamptz <= present - wait, true)
      returning c.event, a.subject, c.pending,
        a.detail || case when c.pending > 0 then jsonb_build_object('count', c.pending) else '{}' end as detail
    ), numbered as (
      select t.*, count(*) over (partition by t.event) as subjects,
        row_number() over (partition by t.event order by t.subject) as number
      from told t where t.event is not null
    )
    select n.event, n.subject, n.detail from numbered n where n.subjects <= apart
    union all
    select n.event, '', jsonb_build_object('subjects', n.subjects,
      'first', jsonb_agg(n.detail order by n.number) filter (where n.number <= apart))
      || case when sum(n.pending) > 0 then jsonb_build_object('count', sum(n.pending)) else '{}' end
    from numbered n where n.subjects > apart group by n.event, n.subjects
    order by 1, 2
  loop
    perform collecta.send_alert(alert.event, alert.subject, alert.detail);
  end loop;
end
$$;


ALTER FUNCTION collecta.raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone) IS 'Sends alerts about changes of state, at most one of the same kind about the same subject within settings.alert_interval. More than 20 alerts of one event at once become one alert. observe() calls it.';


--
-- Name: read_change(collecta.module_versions, collecta.operation, json, json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.read_change(module collecta.module_versions, operation collecta.operation, old json, new json) RETURNS collecta.change_reading
    LANGUAGE plpgsql STABLE
    AS $_$
declare
  rows_text constant text := concat(old, new);
  is_masked constant boolean := strpos(rows_text, E'\\u') > 0 or strpos(rows_text, E'\x7f') > 0;
  safe_old json := old;
  safe_new json := new;
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
      safe_old := collecta.mask_escapes(old);
      safe_new := collecta.mask_escapes(new);
    end if;
    captured := coalesce(safe_new, safe_old);
    if strpos(rows_text, '"$truncated"') > 0 then
      truncated := (safe_old -> '$truncated') is not null or (safe_new -> '$truncated') is not null;
    end if;

    if cardinality(module.key_columns) = 1 and not is_masked then
      old_id := safe_old ->> module.key_columns[1];
      new_id := safe_new ->> module.key_columns[1];
    else
      old_id := collecta.record_id(safe_old, module.key_columns);
      new_id := collecta.record_id(safe_new, module.key_columns);
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
        old_id := collecta.record_id(safe_old, module.key_columns);
        new_id := collecta.record_id(safe_new, module.key_columns);
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
      status_from := coalesce(collecta.unmask_escapes((safe_old -> module.status_column)::text), 'null');
      status_to := coalesce(collecta.unmask_escapes((safe_new -> module.status_column)::text), 'null');
      status_changed := status_from <> status_to;
    end if;
    if truncated then
      custom_data_changed := coalesce((safe_new ->> '$custom_data_changed')::boolean,
        (safe_old ->> '$custom_data_changed')::boolean, false);
      updated := true;
      previous := '{' || case when status_changed
        then to_json(module.status_column)::text || ':' || status_from else '' end || '}';
    else
      -- Both rows come from one table, so they have the same columns in the same order.
      select '{' || string_agg(to_json(c.key)::text || ':' || c.was::text, ',') || '}',
        bool_or(c.key <> all (module.ignore_columns)), bool_or(c.key = module.custom_data_column)
      into previous, updated, custom_data_changed
      from rows from (json_each(safe_old), json_each(safe_new)) c (key, was, new_key, is_now)
      where c.was::text <> c.is_now::text;
      previous := collecta.unmask_escapes(previous);
    end if;
    events := array[case when updated then 'record_updated' end, case when status_changed then 'status_change' end,
      case when custom_data_changed then 'custom_data_updated' end];
  end;
  return row(module.version, module.slug, scope, coalesce(new_id, old_id), old_id <> new_id, events, status_from,
    status_to, previous, truncated, unroutable)::collecta.change_reading;
end
$_$;


ALTER FUNCTION collecta.read_change(module collecta.module_versions, operation collecta.operation, old json, new json) OWNER TO collecta_owner;

--
-- Name: FUNCTION read_change(module collecta.module_versions, operation collecta.operation, old json, new json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.read_change(module collecta.module_versions, operation collecta.operation, old json, new json) IS 'Reads an outbox row by the module version under which it was captured, or by the current one (read_by): which record, which events, and the parts of their payloads. A change without events was muted or cannot be routed.';


--
-- Name: read_delivery(bigint); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.read_delivery(id bigint) RETURNS json
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object('body', e.body)
  from collecta.delivery_queue q
  join collecta.events e on e.event_id = q.event_id and e.payload_role = q.payload_role and e.routed_at = q.routed_at
  where q.delivery_id = read_delivery.id
$$;


ALTER FUNCTION collecta.read_delivery(id bigint) OWNER TO collecta_owner;

--
-- Name: FUNCTION read_delivery(id bigint); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.read_delivery(id bigint) IS 'For a runner whose claim failed: returns the body of one delivery as a claim does, to find the delivery that cannot be read.';


--
-- Name: read_figures(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.read_figures() RETURNS TABLE(name text, labels jsonb, value double precision)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  with depth as (
    select d.name, d.counted > 10000 as estimated,
      case when d.counted > 10000
        then greatest(d.counted, pg_stat_get_live_tuples(format('collecta.%I', d.relation)::regclass)) else d.counted
        end as depth
    from (values
      ('collecta_outbox_rows', 'outbox', (select count(*) from (select from collecta.outbox limit 10001) o)),
      ('collecta_delivery_queue_rows', 'delivery_queue',
        (select count(*) from (select from collecta.delivery_queue limit 10001) q)),
      ('collecta_unrouted', 'unrouted', (select count(*) from (select from collecta.unrouted limit 10001) u))
    ) d (name, relation, counted)
  ), figure (name, labels, value) as (
  select 'collecta_captured_total', '{}'::jsonb, case when s.is_called then s.last_value / 2 else 0 end::float8
  from collecta.outbox_change_id_seq s
  union all
  select 'collecta_outbox_oldest_seconds', '{}', coalesce(extract(epoch from now()
    - (select o.captured_at from collecta.outbox o order by o.change_id limit 1)), 0)::float8
  union all
  select d.name, '{}', d.depth::float8 from depth d
  union all
  select d.name || '_estimated', '{}', d.estimated::int::float8 from depth d
  union all
  select 'collecta_due_oldest_seconds', jsonb_build_object('endpoint', e.endpoint_id),
    greatest(extract(epoch from now() - q.due_at), 0)::float8
  from collecta.endpoints e
  cross join lateral (
    select q.due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id order by q.due_at limit 1) q
  where e.state <> 'deleted' and q.due_at < now()
  union all
  select 'collecta_endpoints', jsonb_build_object('state', e.state), count(*)::float8
  from collecta.endpoints e group by e.state
  union all
  select 'collecta_endpoint_info', jsonb_build_object('endpoint', e.endpoint_id, 'name', coalesce(e.name, '')), 1
  from collecta.endpoints e where e.state <> 'deleted'
  union all
  select 'collecta_attempts_last_minute', jsonb_build_object('outcome', a.outcome), count(*)::float8
  from collecta.delivery_attempts a
  where a.id >= collecta.attempt_id_at(now() - interval '1 minute') group by a.outcome
  union all
  select 'collecta_inbound_requests_failed', '{}', count(*)::float8
  from (select from collecta.inbound_requests r where r.state = 'failed' limit 10001) r
  union all
  select 'collecta_health', jsonb_build_object('severity', h.severity, 'problem', h.problem), count(*)::float8
  from collecta.check_health() h group by h.severity, h.problem
  )
  -- Who is restricted to scopes sees the figures of their endpoints. check_health() knows of that itself.
  select f.name, f.labels, f.value
  from figure f cross join collecta.visible_scopes() scopes
  where scopes is null or f.name = 'collecta_health'
    or f.labels ->> 'endpoint' in (select e.endpoint_id from collecta.endpoints e where e.scope = any (scopes))
$$;


ALTER FUNCTION collecta.read_figures() OWNER TO collecta_owner;

--
-- Name: FUNCTION read_figures(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.read_figures() IS 'For runners and for who reads: what /metrics says of the database. Depths are exact up to 10,000; beyond that they are estimates, and the figure that ends in _estimated is 1.';


--
-- Name: read_inbound_mapping(jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.read_inbound_mapping(mapping jsonb) RETURNS TABLE(column_name text, path text, steps text[], required boolean, fallback jsonb, constant jsonb, forms text[])
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  entry record;
  wrong text;
begin
  if jsonb_typeof(mapping) is distinct from 'object' or mapping = '{}' then
    raise exception using errcode = 'CW052', message = 'a mapping is an object with at least one entry',
      hint = 'mapping => ''{"$.payload.sku": "product_code", "quantity": {"path": "$.payload.qty", '
        '"required": true}}''';
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
        hint = 'mapping => ''{"$.payload.sku": "product_code", "quantity": {"path": "$.payload.qty", "required": '
          'true}}''';
    end if;
    required := coalesce((entry.value -> 'required')::boolean, false);
    fallback := entry.value -> 'default';
    constant := entry.value -> 'constant';
    forms := array(select jsonb_array_elements_text(case jsonb_typeof(entry.value -> 'as')
      when 'array' then entry.value -> 'as' when 'string' then jsonb_build_array(entry.value -> 'as') else '[]' end));
    return next;
  end loop;
end
$_$;


ALTER FUNCTION collecta.read_inbound_mapping(mapping jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION read_inbound_mapping(mapping jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.read_inbound_mapping(mapping jsonb) IS 'A mapping, one row a column. Both forms: "path": "column", and "column": {"path" | "constant" | "whole": ..., "default": ..., "required": ...}. Refuses with CW052 what is not of them.';


--
-- Name: receive_inbound(text, text, text, boolean, text, boolean, text, text, boolean, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.receive_inbound(inbound_endpoint_id text, body text, key_hash text DEFAULT NULL::text, same_body boolean DEFAULT false, body_digest text DEFAULT NULL::text, ignored boolean DEFAULT false, problem text DEFAULT NULL::text, request_id text DEFAULT NULL::text, final boolean DEFAULT false, check_digest boolean DEFAULT true, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '3s'
    SET array_nulls TO 'on'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET transform_null_equals TO 'off'
    AS $$
#variable_conflict use_column
declare
  endpoint record;
  arrived constant timestamptz := clock_timestamp();
  retried constant boolean := request_id is not null;
  state text := case when ignored then 'ignored' else 'accepted' end;
  earlier record;
  done json;
  written record;
begin
  if retried then
    select r.results, r.key_hash, r.body_digest into earlier from collecta.inbound_requests r
    where r.request_id = receive_inbound.request_id and r.state = 'retry' for update;
    if not found then
      return;
    end if;
    done := earlier.results;
    key_hash := earlier.key_hash;
    body_digest := earlier.body_digest;
  end if;
  select e.*, e.written_for <> collecta.inbound_shape(e.relation, e.columns, m.current_version) as stale into endpoint
  from collecta.inbound_endpoints e
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  where e.inbound_endpoint_id = receive_inbound.inbound_endpoint_id
    and (e.state = 'active' or retried and e.state = 'paused');
  if not found and not retried then
    status := 404;
    return;
  end if;

  if not retried then
    if collecta.take_inbound_budget(inbound_endpoint_id, endpoint.rate_limit_per_minute, 1, arrived) = 0 then
      status := 429;
      -- If another request has taken the last free row and has not committed, there is nothing to wait for.
      retry_after := greatest(0, coalesce(extract(epoch from (
        select min(b.taken_at) from collecta.inbound_budgets b
        where b.inbound_endpoint_id = receive_inbound.inbound_endpoint_id and b.taken_at > '-infinity')
        + interval '60 s' - arrived), 0));
      return;
    end if;
  end if;

  reason := problem;
  if endpoint.inbound_endpoint_id is null then
    reason := 'the inbound endpoint was deleted, or its module detached';
  elsif key_hash is not null or body_digest is not null then
    select e.* into earlier
    from collecta.earlier_inbound(receive_inbound.inbound_endpoint_id, key_hash, body_digest, check_digest,
      coalesce(endpoint.digest_window, interval '1 day'), case when same_body then receive_inbound.body end) e;
    if earlier.same then
      status := 202;
      record_id := earlier.record_id;
      results := earlier.results;
      update collecta.inbound_requests r
      set state = 'duplicate', record_id = earlier.record_id, finished_at = clock_timestamp()
      where r.request_id = receive_inbound.request_id;
      return;
    elsif not earlier.same then
      reason := 'the idempotency key was used for another body';
    end if;
  end if;

  if reason is null and not ignored then
    select w.* into written
    from collecta.write_inbound(endpoint.inbound_endpoint_id, endpoint.function_number,
      endpoint.mapping_version, endpoint.stale, endpoint.each is null, endpoint.each_alone, body, done, final) w;
    reason := written.reason;
    column_name := written.column_name;
    record_id := written.record_id;
    results := written.results;
    state := written.state;
  else
    select null as operation, null as code, null as message into written;
    state := case when reason is null then state else 'failed' end;
  end if;
  status := case when state <> 'failed' then 202 when written.code ~ '^40' collate "C" then 503 else 422 end;
  if ignored and not endpoint.keep_ignored then
    return;
  end if;
  kept_as := coalesce(request_id, collecta.new_id('req'));
  insert into collecta.inbound_requests as r (request_id, inbound_endpoint_id, received_at, state, operation, record_id,
    reason, column_name, sqlstate, error, mapping_version, key_hash, body_digest, results, body)
  values (kept_as, receive_inbound.inbound_endpoint_id, arrived, state::collecta.inbound_request_state,
    written.operation, record_id,
    reason, column_name, written.code, written.message, coalesce(endpoint.mapping_version, 0), key_hash,
    -- A failed request that is run again is compared by its digest, so the digest is stored only if that is allowed.
    case when check_digest or state <> 'failed' then body_digest end, results, body)
  on conflict on constraint inbound_requests_pkey do update
    set state = excluded.state, operation = excluded.operation, record_id = excluded.record_id,
      reason = excluded.reason, column_name = excluded.column_name, sqlstate = excluded.sqlstate,
      error = excluded.error, mapping_version = greatest(r.mapping_version, excluded.mapping_version),
      results = excluded.results, attempts = r.attempts + 1, finished_at = clock_timestamp();
end
$$;


ALTER FUNCTION collecta.receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision) OWNER TO collecta_owner;

--
-- Name: FUNCTION receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision) IS 'For the receiving process, which calls it once for a request, in one transaction: it takes the request from the rate budget, answers a repeated id or body as it was answered before, maps the payload, casts the values, inserts or updates the records, and stores the request. key_hash and body_digest identify repetitions; if check_digest is false, the digest is only stored for later requests. same_body: a repeated key must have equal JSON. ignored: the event becomes no record. problem: why the payload cannot be read, to be stored. request_id: runs a stored request in state retry again. final: stores the request even after a deadlock, instead of raising. status: 202; 404; 422 (stored as failed: reason, column_name); 429 (retry_after seconds); 503 (stored; deadlock).';


--
-- Name: recipients(integer, collecta.operation, text, timestamp with time zone, collecta.claim_room); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room) RETURNS collecta.recipient[]
    LANGUAGE plpgsql STABLE
    AS $$
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


ALTER FUNCTION collecta.recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room) OWNER TO collecta_owner;

--
-- Name: FUNCTION recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room) IS 'Endpoints that subscribe to what an operation means, event by event, before filters.';


--
-- Name: record_deliveries(collecta.delivery_result[], text[], json[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_deliveries(results collecta.delivery_result[], urls text[] DEFAULT '{}'::text[], headers json[] DEFAULT '{}'::json[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET lock_timeout TO '2s'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  -- All attempts of a call have the same random id but for the last digits, which number them: this is cheaper than a
  -- random id for each.
  base constant text := left(collecta.new_id('dlv'), -5);
  present constant timestamptz := clock_timestamp();
  recorded int;
  succeeded text[]; -- endpoints, once for each delivery
  ordered_endpoints text[];
  ordered_records bigint[];
begin
  with delivered as (
    delete from collecta.delivery_queue q
    using unnest(results) with ordinality r
    where q.delivery_id = any (array(select u.id from unnest(results) u))
      and r.id = q.delivery_id and q.leased_until = 'epoch'::timestamptz + r.lease * interval '1 us'
      and r.outcome = 'delivered'
    returning r.*, q.attempt, q.endpoint_id, q.event_id, q.payload_role, q.routed_at, q.replay_of, q.record_key
  ), history as (
    insert into collecta.delivery_attempts (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url,
      request_headers, response_status, response_headers, response_body, error, started_at, finished_at,
      lookup_ms, connect_ms, first_byte_ms, total_ms, replay_of)
    select base || lpad(to_hex(d.ordinality), 5, '0'), d.event_id, d.payload_role, d.routed_at, d.endpoint_id,
      d.attempt + 1, d.outcome, coalesce(urls[d.url], ''),
      collecta.attempt_headers(headers[d.request_headers], d.event_id, d.signed_at, d.signature, d.standard_signature),
      d.status, headers[d.response_headers], d.response_body, d.error,
      present - coalesce(d.age_ms, 0) * interval '1 ms',
      present - (coalesce(d.age_ms, 0) - coalesce(d.total_ms, 0)) * interval '1 ms',
      d.lookup_ms, d.connect_ms, d.first_byte_ms, d.total_ms, d.replay_of
    from delivered d
  )
  select count(*), array_agg(d.endpoint_id),
    array_agg(d.endpoint_id) filter (where d.record_key is not null),
    array_agg(d.record_key) filter (where d.record_key is not null)
  into recorded, succeeded, ordered_endpoints, ordered_records
  from delivered d;

  if exists (select from collecta.endpoint_flow f where f.endpoint_id = any (succeeded)) then
    perform collecta.note_successes(succeeded);
  end if;
  if recorded < cardinality(results) then
    recorded := recorded + collecta.record_undelivered(results, urls, headers, base, present, succeeded);
  end if;
  if ordered_endpoints is not null then
    perform collecta.promote_next(ordered_endpoints, ordered_records);
  end if;
  return recorded;
end
$$;


ALTER FUNCTION collecta.record_deliveries(results collecta.delivery_result[], urls text[], headers json[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_deliveries(results collecta.delivery_result[], urls text[], headers json[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_deliveries(results collecta.delivery_result[], urls text[], headers json[]) IS 'For runners: records finished attempts. The results refer to urls and headers by their places in these arrays. Returns how many of the results were recorded; the deliveries of the others were no longer the runners.';


--
-- Name: record_id(json, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_id(document json, key_columns text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case
    when document is null then null
    when cardinality(key_columns) = 1 then collecta.unmask_escapes((document -> key_columns[1])::text)::json #>> '{}'
    else (select case when bool_and((document -> k) is not null)
        then '[' || string_agg(collecta.unmask_escapes((document -> k)::text), ',' order by place) || ']' end
          from unnest(key_columns) with ordinality key (k, place)) end
$$;


ALTER FUNCTION collecta.record_id(document json, key_columns text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_id(document json, key_columns text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_id(document json, key_columns text[]) IS 'Returns the key of a captured row as text; for a composite key the compact JSON array in key order.';


--
-- Name: record_ids(json, json, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  old_id := collecta.record_id(collecta.mask_escapes(old), key_columns);
  new_id := collecta.record_id(collecta.mask_escapes(new), key_columns);
exception when others then
  null;
end
$$;


ALTER FUNCTION collecta.record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text) IS 'Returns the key of a record before and after a change, or null if it cannot be read, so that one such change does not fail a statement that reads many.';


--
-- Name: record_key(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_key(module text, record_id text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select hashtextextended(module || '/' || coalesce(record_id, ''), 0)
$$;


ALTER FUNCTION collecta.record_key(module text, record_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_key(module text, record_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_key(module text, record_id text) IS 'Returns the number by which the deliveries of a record are put in order. It is a hash, because a key may be too long for an index. Records that share a hash are delivered one after the other, which does no harm.';


--
-- Name: record_outcome(bigint, bigint, text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_outcome(id bigint, lease bigint, outcome text, reason text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
#variable_conflict use_column
declare
  row_at collecta.delivery_queue;
begin
  select q.* into row_at from collecta.delivery_queue q
  where q.delivery_id = record_outcome.id
    and q.leased_until = 'epoch'::timestamptz + record_outcome.lease * interval '1 us'
  for update;
  if not found then
    return 0;
  elsif outcome = 'delivered' then
    delete from collecta.delivery_queue q where q.delivery_id = row_at.delivery_id;
    if row_at.record_key is not null then
      perform collecta.promote_next(array[row_at.endpoint_id], array[row_at.record_key]);
    end if;
  elsif outcome = 'lost' then
    update collecta.delivery_queue q set leased_until = null where q.delivery_id = row_at.delivery_id;
  elsif exists (select from collecta.endpoints e
      where e.endpoint_id = row_at.endpoint_id and row_at.attempt < e.retry_max) then
    update collecta.delivery_queue q
    set attempt = q.attempt + 1, losses = 0, leased_until = null,
      due_at = clock_timestamp() + (
        select e.retry_base * pow(2, row_at.attempt) from collecta.endpoints e where e.endpoint_id = q.endpoint_id)
    where q.delivery_id = row_at.delivery_id;
  else
    perform collecta.set_aside_deliveries(array[row_at.delivery_id],
      'given up; history could not be written: ' || reason);
  end if;
  return 1;
end
$$;


ALTER FUNCTION collecta.record_outcome(id bigint, lease bigint, outcome text, reason text) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_outcome(id bigint, lease bigint, outcome text, reason text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_outcome(id bigint, lease bigint, outcome text, reason text) IS 'For runners: records that an attempt was made, without a history row. If that was the last attempt, the delivery goes to collecta.unrouted.';


--
-- Name: record_undelivered(collecta.delivery_result[], text[], json[], text, timestamp with time zone, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'on'
    SET enable_hashjoin TO 'off'
    AS $$
#variable_conflict use_column
declare
  recorded int;
  failing text[];
  held text[];
  held_until timestamptz[];
  gone text[];
  ordered_endpoints text[];
  ordered_records bigint[];
begin
  with result as (
    select r.*, present - (coalesce(r.age_ms, 0) - coalesce(r.total_ms, 0)) * interval '1 ms' as finished_at
    from unnest(results) with ordinality r
    where r.outcome <> 'delivered'
  ), locked as materialized (
    -- Each row is found by its key, and locked in one order, whatever the statistics of the table say.
    select r.*, q.*,
      -- Retry-After: 0 is no hold. As a hold, the delivery would be sent again at once, over and over for a day.
      case when r.status in (429, 503) and r.retry_after_s > 0
        then r.finished_at + least(r.retry_after_s, 3600) * interval '1 s' end as held_until
    from (select * from result order by id) r
    cross join lateral (
      select q.ctid as row_at, q.attempt + 1 as attempt, q.endpoint_id, q.event_id, q.payload_role, q.routed_at,
        q.replay_of, q.record_key, q.held_since
      from collecta.delivery_queue q
      where q.delivery_id = r.id and q.leased_until = 'epoch'::timestamptz + r.lease * interval '1 us'
      for update) q
  ), mine as materialized (
    select l.*, l.counts and l.attempt > l.retry_max or l.state = 'deleted' as done,
      -- retry_base, then doubled after each attempt (60, 120, 240, 480, 960 s), from the end of the failed one.
      case when l.is_held then l.held_until
        when l.outcome = 'lost' then present
        else l.finished_at + l.retry_base * pow(2, l.attempt - 1) end as next_attempt_at
    from (
      select l.*, not l.is_held and l.outcome <> 'lost' as counts, e.retry_max, e.retry_base, e.state
      from (
        select l.*, l.held_until is not null and coalesce(l.held_since, present) > present - interval '1 day' as is_held
        from locked l) l
      left join collecta.endpoints e on e.endpoint_id = l.endpoint_id) l
  ), gone as (
    delete from collecta.delivery_queue q where q.ctid = any (array(select m.row_at from mine m where m.done))
  ), again as (
    update collecta.delivery_queue q
    -- It must not be due before rows in flight, since a claim takes the first max_in_flight due rows for these.
    set due_at = greatest(m.next_attempt_at, clock_timestamp()), leased_until = null, losses = 0,
      attempt = case when m.counts then m.attempt else q.attempt end,
      held_since = case when m.held_until is not null then coalesce(q.held_since, present) else q.held_since end
    from mine m
    where q.ctid = m.row_at and not m.done
  ), history as (
    insert into collecta.delivery_attempts (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url,
      request_headers, response_status, response_headers, response_body, error, started_at, finished_at,
      lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of)
    select base || lpad(to_hex(m.ordinality), 5, '0'), m.event_id, m.payload_role, m.routed_at, m.endpoint_id,
      m.attempt, case when m.done then 'exhausted' else m.outcome end, coalesce(urls[m.url], ''),
      collecta.attempt_headers(headers[m.request_headers], m.event_id, m.signed_at, m.signature,
        m.standard_signature),
      m.status, headers[m.response_headers], m.response_body, m.error,
      present - coalesce(m.age_ms, 0) * interval '1 ms', m.finished_at,
      m.lookup_ms, m.connect_ms, m.first_byte_ms, m.total_ms, case when not m.done then m.next_attempt_at end,
      m.replay_of
    from mine m
  )
  select count(*),
    array_agg(m.endpoint_id)
      filter (where m.outcome <> 'lost' and m.endpoint_id <> all (coalesce(succeeded, '{}'))),
    array_agg(m.endpoint_id) filter (where m.held_until is not null),
    array_agg(m.held_until) filter (where m.held_until is not null),
    array_agg(m.endpoint_id) filter (where m.status = 410),
    array_agg(m.endpoint_id) filter (where m.record_key is not null and m.done),
    array_agg(m.record_key) filter (where m.record_key is not null and m.done)
  into recorded, failing, held, held_until, gone, ordered_endpoints, ordered_records
  from mine m;
  if failing is not null or held is not null or gone is not null then
    perform collecta.note_failures(failing, held, held_until, gone);
  end if;
  if ordered_endpoints is not null then
    perform collecta.promote_next(ordered_endpoints, ordered_records);
  end if;
  return recorded;
end
$$;


ALTER FUNCTION collecta.record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]) IS 'Records the results that were not delivered. record_deliveries calls it.';


--
-- Name: refuse_distributed(regclass, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.refuse_distributed(relation regclass, slug text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if collecta.is_distributed(relation) then
    raise exception using errcode = 'CW002', message = format('%s cannot be attached as a whole', relation),
      detail = format('Citus keeps its rows in shards, and triggers of the table itself never fire. Each node with '
        'shards has an install of its own, on which its shards are attached. Its shards are on: %s.',
        collecta.shard_nodes(relation)),
      hint = collecta.attach_shards_call(relation, slug) || ' -- on each of these nodes';
  end if;
end
$$;


ALTER FUNCTION collecta.refuse_distributed(relation regclass, slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION refuse_distributed(relation regclass, slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.refuse_distributed(relation regclass, slug text) IS 'Raises CW002 for a distributed table, because attach_module could attach it but its triggers would never fire.';


--
-- Name: refuse_slug(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.refuse_slug(slug text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception using errcode = 'CW001', message = format('there is no module %L', slug),
    detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m) || '.',
      'No table is attached.'),
    hint = 'select slug, relation from collecta.modules;';
end
$$;


ALTER FUNCTION collecta.refuse_slug(slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION refuse_slug(slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.refuse_slug(slug text) IS 'Raises CW001.';


--
-- Name: refuse_truncate_template(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.refuse_truncate_template() RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$ select $body$
-- Refuses TRUNCATE on module @slug@. Written by collecta.write_capture_functions(@module_id@); do not edit.
begin
  raise exception using errcode = 'CW030', message = format('TRUNCATE of %s is refused', tg_relid::regclass),
    detail = 'It is attached as module @slug@ with on_truncate => ''refuse'': TRUNCATE deletes every record at once, '
      'and subscribers of record_deleted would not be told of each.',
    hint = format('delete from %s;', tg_relid::regclass);
end
$body$ $_$;


ALTER FUNCTION collecta.refuse_truncate_template() OWNER TO collecta_owner;

--
-- Name: FUNCTION refuse_truncate_template(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.refuse_truncate_template() IS 'The body of collecta_modules.capture_<n>_truncate with on_truncate => refuse.';


--
-- Name: relations_to_capture(name, text[], oid, boolean, text, text, text, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]) RETURNS oid[]
    LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  function_name text;
begin
  if not has_table_privilege(capturer, 'collecta.outbox', 'insert') then
    return array[]::oid[];
  end if;
  foreach function_name in array called loop
    if not has_function_privilege(capturer, function_name::regproc, 'execute') then
      return array[]::oid[];
    end if;
  end loop;
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    if collecta.sees_old_catalog(relation) then
      return array[]::oid[];
    end if;
  end if;
  if how = 'columns' then
    if layout is distinct from collecta.table_layout(relation) then
      return array[]::oid[];
    end if;
  elsif layout is distinct from collecta.column_types(relation) then
    -- New columns of whole rows are captured at once, if they need no care.
    if database <> collecta.database_identity() or not collecta.output_settings(relation) <@ pinned
      or exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
          and (collecta.type_kind(a.atttypid) <> 'built in' or a.attgenerated = 'v' and how = 'rows'))
    then
      return array[]::oid[];
    end if;
  end if;
  if not has_parts then
    return array[relation];
  end if;
  return array(select m.relid::oid from collecta.module_members(relation) m);
exception when others then
  return array[]::oid[];
end
$$;


ALTER FUNCTION collecta.relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]) IS 'Which tables'' rows a written capture function may capture. None if the capturing role lacks a right on the outbox or on the functions that are called, or where the function does not know the table as it is now, as after DDL for which it must be written again. has_parts: the table is partitioned or distributed. how: rows (whole rows of built-in types), rows without (the same, without omitted columns), columns (column by column). layout: the columns for which it was written. pinned: the settings that it pins.';


--
-- Name: release_deliveries(bigint[], bigint[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.release_deliveries(ids bigint[], leases bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  released int;
begin
  update collecta.delivery_queue q
  set leased_until = null
  from unnest(ids, leases) r (id, lease)
  where q.delivery_id = r.id and q.leased_until = 'epoch'::timestamptz + r.lease * interval '1 us';
  get diagnostics released = row_count;
  perform collecta.wake_runner();
  return released;
end
$$;


ALTER FUNCTION collecta.release_deliveries(ids bigint[], leases bigint[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION release_deliveries(ids bigint[], leases bigint[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.release_deliveries(ids bigint[], leases bigint[]) IS 'For runners: gives back claimed deliveries whose requests have not begun. It does not count as an attempt.';


--
-- Name: remember_module_tables(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.remember_module_tables(only_slug text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  insert into collecta.module_tables as t (slug, relation, named, row_secured)
  select distinct on (m.slug, c.oid) m.slug, c.oid, format('%I.%I', n.nspname, c.relname), c.relrowsecurity
  from (
    select v.slug, v.relation, null::text as named from collecta.module_versions v
    where only_slug is null or v.slug = only_slug
    union all
    select k.slug, k.relation, k.named from collecta.module_tables k
    where only_slug is null or k.slug = only_slug
  ) m
  cross join lateral (
    select m.relation::oid as relid union select p.relid::oid from pg_partition_tree(m.relation) p) tree
  -- Without OFFSET all of pg_class would be read, because PostgreSQL expects 1000 partitions.
  cross join lateral (select * from pg_catalog.pg_class c where c.oid = tree.relid offset 0) c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where case when c.oid = m.relation then m.named is null or m.named = format('%I.%I', n.nspname, c.relname)
    else c.relrowsecurity end
  on conflict on constraint module_tables_pkey do update set named = excluded.named, row_secured = excluded.row_secured
    where (t.named, t.row_secured) is distinct from (excluded.named, excluded.row_secured);
  -- Row security may have been enabled after the last look and before the table was dropped.
  update collecta.module_tables t set row_secured = true
  from collecta.modules m
  where m.slug = t.slug and m.relation = t.relation and not t.row_secured
    and (only_slug is null or t.slug = only_slug)
    and not exists (select from pg_catalog.pg_class c where c.oid = t.relation);
end
$$;


ALTER FUNCTION collecta.remember_module_tables(only_slug text) OWNER TO collecta_owner;

--
-- Name: FUNCTION remember_module_tables(only_slug text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.remember_module_tables(only_slug text) IS 'Updates collecta.module_tables, for all modules or for one.';


--
-- Name: replay_delivery(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.replay_delivery(id text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  scopes constant text[] := collecta.visible_scopes();
  replayed collecta.delivery_attempts;
begin
  select a.* into replayed from collecta.delivery_attempts a
  where a.id = replay_delivery.id
    and (scopes is null or collecta.is_in_scope(a.event_id, a.payload_role, a.routed_at, scopes));
  if not found then
    raise exception using errcode = 'CW020', message = format('there is no delivery %L', id),
      detail = 'Attempts are kept for settings.retention.',
      hint = 'select id, outcome, started_at from collecta.webhook_deliveries order by started_at desc limit 20;';
  end if;
  -- A login that is restricted to scopes may also replay what went to an endpoint without a scope.
  if scopes is null or not exists (
    select from collecta.endpoints e where e.endpoint_id = replayed.endpoint_id and e.state <> 'deleted'
  ) then
    perform collecta.check_endpoint_id(replayed.endpoint_id);
  end if;
  update collecta.delivery_queue q
  set due_at = least(q.due_at, clock_timestamp())
  where q.endpoint_id = replayed.endpoint_id and q.event_id = replayed.event_id
    and q.due_at <> 'infinity' and (q.leased_until is null or q.leased_until < now());
  if not exists (
      select from collecta.delivery_queue q
      where q.endpoint_id = replayed.endpoint_id and q.event_id = replayed.event_id) then
    perform collecta.queue_replays(array[replayed.id]);
  end if;
  perform collecta.wake_runner();
  return replayed.event_id;
end
$$;


ALTER FUNCTION collecta.replay_delivery(id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION replay_delivery(id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.replay_delivery(id text) IS 'Sends the event of a delivery attempt (webhook_deliveries.id) to its endpoint again: the same bytes and webhook-id, attempts from 1, and replay_of set. A delivery that is still queued becomes due now. Returns the id of the event.';


--
-- Name: replay_undelivered(text, timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.replay_undelivered(endpoint_id text DEFAULT NULL::text, since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, until timestamp with time zone DEFAULT 'infinity'::timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET row_security TO 'on'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  queued bigint;
begin
  if replay_undelivered.endpoint_id is not null then
    perform collecta.check_endpoint_id(replay_undelivered.endpoint_id);
  end if;
  -- Two calls at once would send everything twice.
  perform pg_advisory_xact_lock(1668246636, 6);
  queued := collecta.queue_replays(array(
    select u.id from collecta.undelivered u
    where (replay_undelivered.endpoint_id is null or u.endpoint_id = replay_undelivered.endpoint_id)
      and u.finished_at >= since and u.finished_at < replay_undelivered.until
    order by u.id));
  perform collecta.wake_runner();
  return queued;
end
$$;


ALTER FUNCTION collecta.replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone) IS 'Sends again what was given up and not delivered since (collecta.undelivered), for one endpoint or for all, and for what was given up within a span of time. Returns how many deliveries were queued. What is queued already is not queued twice.';


--
-- Name: resolve_modules(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.resolve_modules(anew boolean DEFAULT false) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  identity constant text := collecta.database_identity();
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
      if anew or module.written_for is distinct from collecta.capture_inputs(module.module_id)
        or module.written_hash is distinct from module.hash
      then
        perform collecta.write_capture_functions(module.module_id);
        return next module.slug;
      end if;
    exception when others then
      -- collecta.health keeps its row, and the next call tries again.
      raise warning 'collecta: the capture functions of % could not be written: %', module.slug, sqlerrm;
    end;
  end loop;
end
$$;


ALTER FUNCTION collecta.resolve_modules(anew boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION resolve_modules(anew boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.resolve_modules(anew boolean) IS 'Finds the columns of each module again, after DDL or in a restored database, and generates its capture functions again if they do not match. Returns the modules for which it did so. With anew it does so for all modules, as after an upgrade.';


--
-- Name: restore_grants(boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.restore_grants(exactly boolean DEFAULT false) RETURNS TABLE(object text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  entry record;
begin
  -- Without this lock, two sessions that change one object's privileges would fail with "tuple concurrently updated".
  perform pg_advisory_xact_lock(1668246636, 9);
  for entry in
    with compared as (
      select c.*, coalesce(r.rolname, 'public') as role_name
      from collecta.compared_grants(exactly) c left join pg_catalog.pg_roles r on r.oid = c.grantee
    )
    -- First all privileges are revoked from all roles, including the owner. Then the designed ones are granted.
    select distinct 1 as step, c.object, c.kind, c.id, c.schema_name, c.object_name, ''::name as attribute, c.role_name,
      '' as privilege
    from compared c where c.is_actual
    union all
    select distinct 2, c.object, c.kind, c.id, c.schema_name, c.object_name, c.attribute, c.role_name,
      case when c.is_owner then 'ALL' else c.privilege end
    from compared c where c.is_designed
    order by object, step, role_name, attribute, privilege
  loop
    if entry.step = 1 then
      case entry.kind
        when 'schema' then
          execute format('revoke all on schema %I from %I cascade', entry.schema_name, entry.role_name);
        when 'relation' then
          execute format('revoke all on %I.%I from %I cascade', entry.schema_name, entry.object_name, entry.role_name);
        when 'function' then
          execute format('revoke all on routine %s from %I cascade', entry.id::regprocedure, entry.role_name);
        when 'type' then
          execute format('revoke all on type %s from %I cascade', entry.id::regtype, entry.role_name);
      end case;
      if entry.object is distinct from restore_grants.object then
        restore_grants.object := entry.object;
        return next;
      end if;
    elsif entry.privilege = 'ALL' then
      case entry.kind
        when 'schema' then
          execute format('grant all on schema %I to %I', entry.schema_name, entry.role_name);
        when 'relation' then
          execute format('grant all on %I.%I to %I', entry.schema_name, entry.object_name, entry.role_name);
        when 'function' then
          execute format('grant all on routine %s to %I', entry.id::regprocedure, entry.role_name);
        when 'type' then
          execute format('grant all on type %s to %I', entry.id::regtype, entry.role_name);
      end case;
    else
      case entry.kind || ' ' || entry.privilege
        when 'schema USAGE' then
          execute format('grant usage on schema %I to %I', entry.schema_name, entry.role_name);
        when 'function EXECUTE' then
          execute format('grant execute on routine %s to %I', entry.id::regprocedure, entry.role_name);
        when 'relation INSERT' then
          execute format('grant insert on %I.%I to %I', entry.schema_name, entry.object_name, entry.role_name);
        when 'relation SELECT' then
          if entry.attribute = '' then
            execute format('grant select on %I.%I to %I', entry.schema_name, entry.object_name, entry.role_name);
          else
            execute format('grant select (%I) on %I.%I to %I', entry.attribute, entry.schema_name, entry.object_name,
                           entry.role_name);
          end if;
      end case;
    end if;
  end loop;
end
$$;


ALTER FUNCTION collecta.restore_grants(exactly boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION restore_grants(exactly boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.restore_grants(exactly boolean) IS 'Sets the privileges on all objects of collecta to what collecta.designed_grants() says. Returns the objects that it changed.';


--
-- Name: restore_rows(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.restore_rows() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  present constant text := collecta.database_identity();
  written record;
begin
  insert into collecta.settings default values on conflict on constraint settings_pkey do nothing;
  insert into collecta.observation default values on conflict on constraint observation_pkey do nothing;
  perform collecta.save_sender_presets();
  insert into collecta.installation (system_identifier, database_oid, branch)
  values (split_part(present, '/', 1)::bigint, split_part(present, '/', 2)::oid,
    nullif(split_part(present, '/', 3), ''))
  on conflict on constraint installation_pkey do nothing;
  -- These functions were generated for modules of the other database. Modules of this one will get the same numbers.
  for written in
    select p.oid::regprocedure as id
    from pg_catalog.pg_proc p
    where p.pronamespace in (select n.oid from pg_catalog.pg_namespace n
                             where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows'))
      and p.proname ~ '^(capture|write_inbound|cast_inbound)_[0-9]+'
      and not exists (select from pg_catalog.pg_trigger t where t.tgfoid = p.oid)
  loop
    execute format('drop function if exists %s', written.id);
  end loop;
  delete from collecta.outbox;
  perform collecta.maintain();
end
$$;


ALTER FUNCTION collecta.restore_rows() OWNER TO collecta_owner;

--
-- Name: FUNCTION restore_rows(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.restore_rows() IS 'Turns a copy of the schema without its rows into a fresh install. The installer calls it after it has dropped the triggers of the copy.';


--
-- Name: restrict_login(text, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.restrict_login(login text, scopes text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_variable
declare
  reason constant text := collecta.why_not_restricted(login::name);
begin
  if to_regrole(quote_ident(login)) is null then
    raise exception using errcode = 'CW043', message = format('there is no role %L', login),
      detail = 'A restriction is bound to a role by its name.', hint = format('create role %I login;', login);
  end if;
  if scopes is null or array_position(scopes, null) is not null then
    raise exception using errcode = 'CW043', message = 'scopes are null',
      detail = 'A restricted login sees the records whose scope column has one of these values.',
      hint = format('select collecta.restrict_login(%L, %L);', login, '{acme}');
  end if;
  if reason is not null then
    raise exception using errcode = 'CW043', message = format('%s %s: a restriction would not hold', login, reason),
      detail = 'Row security does not apply to such a role, or it can read deliveries in another way.',
      hint = format('create role %I login in role %I; -- and restrict that one', login || '_of_one_scope',
        collecta.role_name('collecta_reader'));
  end if;
  insert into collecta.restricted_logins as l (login, login_oid, database, scopes)
  values (login, to_regrole(quote_ident(login)), collecta.database_identity(), scopes)
  on conflict on constraint restricted_logins_pkey do update
  set login_oid = excluded.login_oid, database = excluded.database, scopes = excluded.scopes, restricted_at = now();
end
$$;


ALTER FUNCTION collecta.restrict_login(login text, scopes text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION restrict_login(login text, scopes text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.restrict_login(login text, scopes text[]) IS 'Restricts a role, and all roles that inherit its rights, to these scopes (tenants): from now on it sees only what belongs to them, and as an operator acts only on that. If you call it again, it replaces the scopes.';


--
-- Name: resume_after_restore(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.resume_after_restore(environment text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  present constant text := collecta.database_identity();
begin
  if not exists (select from collecta.settings) then
    raise exception using errcode = 'CW040', message = 'this database has collecta''s schema without its rows',
      detail = 'It looks like a copy of the schema alone.', hint = 'collecta-webhooks migrate';
  end if;
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


ALTER FUNCTION collecta.resume_after_restore(environment text) OWNER TO collecta_owner;

--
-- Name: FUNCTION resume_after_restore(environment text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.resume_after_restore(environment text) IS 'Makes this database, which was restored, cloned or upgraded, the one that delivers. Its endpoints, queue and secrets are those of the original, so check them first.';


--
-- Name: resume_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.resume_endpoint(endpoint_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(resume_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'active', paused_reason = null
  where e.endpoint_id = resume_endpoint.endpoint_id;
  update collecta.endpoint_flow f
  set failing_since = null, held_until = null, pace = case when f.failing_since is not null then 1 end, paced_at = now()
  where f.endpoint_id = resume_endpoint.endpoint_id;
  perform collecta.wake_runner();
end
$$;


ALTER FUNCTION collecta.resume_endpoint(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION resume_endpoint(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.resume_endpoint(endpoint_id text) IS 'Resumes deliveries to a paused endpoint, including those that were queued meanwhile.';


--
-- Name: resume_inbound_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.resume_inbound_endpoint(inbound_endpoint_id text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  select collecta.set_inbound_state(inbound_endpoint_id, 'active')
$$;


ALTER FUNCTION collecta.resume_inbound_endpoint(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION resume_inbound_endpoint(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.resume_inbound_endpoint(inbound_endpoint_id text) IS 'Takes requests again, under the same URL.';


--
-- Name: retry_inbound(text, timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.retry_inbound(id text, since timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
declare
  queued bigint;
begin
  if collecta.visible_scopes() is not null
    or not exists (select from collecta.inbound_requests r where r.request_id = id) then
    perform collecta.check_inbound_endpoint_id(id);
  end if;
  update collecta.inbound_requests r set state = 'retry'
  where r.state in ('failed', 'partial')
    and (r.request_id = id or r.inbound_endpoint_id = id and (since is null or r.received_at >= since));
  get diagnostics queued = row_count;
  perform pg_notify('collecta_inbound', 'retry');
  return queued;
end
$$;


ALTER FUNCTION collecta.retry_inbound(id text, since timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION retry_inbound(id text, since timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.retry_inbound(id text, since timestamp with time zone) IS 'Runs failed requests again after the mapping or the table is mended: one by its request_id, or all of an inbound endpoint (since a time). Returns how many. They get the state retry, and the receiving process runs them at once, oldest first, the same way as new ones; look at state and reason of collecta.inbound_requests.';


--
-- Name: revoke_execute(regprocedure); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.revoke_execute(function_id regprocedure) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  holders text[]; -- roles, quoted
begin
  -- PUBLIC may execute a new function by default, and ALTER DEFAULT PRIVILEGES may have granted it to others.
  select array_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end) into holders
  from pg_catalog.pg_proc p
  cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  where p.oid = function_id and a.grantee <> p.proowner;
  if holders is not null then
    execute format('revoke all on function %s from %s cascade', function_id, array_to_string(holders, ', '));
  end if;
end
$$;


ALTER FUNCTION collecta.revoke_execute(function_id regprocedure) OWNER TO collecta_owner;

--
-- Name: FUNCTION revoke_execute(function_id regprocedure); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.revoke_execute(function_id regprocedure) IS 'Revokes EXECUTE on a function from everybody but its owner.';


--
-- Name: role_name(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.role_name(usual_name text) RETURNS text
    LANGUAGE sql IMMUTABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select regexp_replace(usual_name, '^collecta_', collecta.role_prefix())
$$;


ALTER FUNCTION collecta.role_name(usual_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION role_name(usual_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.role_name(usual_name text) IS 'Returns the name of a role in this install: for collecta_reader the same name, or one with another prefix.';


--
-- Name: role_prefix(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.role_prefix() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select 'collecta_'$$;


ALTER FUNCTION collecta.role_prefix() OWNER TO collecta_owner;

--
-- Name: FUNCTION role_prefix(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.role_prefix() IS 'Returns the prefix of the names of this install''s roles.';


--
-- Name: rotate_inbound_secret(text, interval, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.rotate_inbound_secret(inbound_endpoint_id text, overlap interval DEFAULT '24:00:00'::interval, secret text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  fresh constant text := coalesce(rotate_inbound_secret.secret, collecta.new_secret());
begin
  perform collecta.check_inbound_overlap(rotate_inbound_secret.inbound_endpoint_id, overlap);
  if not collecta.is_inbound_secret(fresh, (
    select k.signatures from collecta.inbound_senders k
    where k.sender = (select e.sender from collecta.inbound_endpoints e
                      where e.inbound_endpoint_id = rotate_inbound_secret.inbound_endpoint_id))) then
    raise exception using errcode = 'CW055', message = 'this secret cannot be used',
      detail = 'A secret is 1 to 512 printable characters; one that begins with whsec_ goes on in base64.',
        hint = 'Leave it out: a good one is generated and returned.';
  end if;
  update collecta.inbound_secrets s
  set secret = fresh, previous_secret = s.secret, previous_secret_until = now() + overlap
  where s.inbound_endpoint_id = rotate_inbound_secret.inbound_endpoint_id;
  perform pg_notify('collecta_inbound', '');
  return fresh;
end
$$;


ALTER FUNCTION collecta.rotate_inbound_secret(inbound_endpoint_id text, overlap interval, secret text) OWNER TO collecta_owner;

--
-- Name: FUNCTION rotate_inbound_secret(inbound_endpoint_id text, overlap interval, secret text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.rotate_inbound_secret(inbound_endpoint_id text, overlap interval, secret text) IS 'Gives an inbound endpoint a new secret, generated unless given, and returns it; signatures by the old one pass until the overlap ends. On an endpoint without a secret: signatures are required from now on.';


--
-- Name: rotate_inbound_token(text, interval); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.rotate_inbound_token(inbound_endpoint_id text, overlap interval DEFAULT '24:00:00'::interval) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  token constant text := encode(sha256(convert_to(collecta.new_secret(), 'UTF8')), 'hex');
begin
  perform collecta.check_inbound_overlap(rotate_inbound_token.inbound_endpoint_id, overlap);
  update collecta.inbound_secrets s
  set token_hash = encode(sha256(convert_to(token, 'UTF8')), 'hex'), previous_token_hash = s.token_hash,
    previous_token_until = now() + overlap
  where s.inbound_endpoint_id = rotate_inbound_token.inbound_endpoint_id;
  perform pg_notify('collecta_inbound', '');
  return (select format('/api/webhooks/%s/%s', e.module, token) from collecta.inbound_endpoints e
    where e.inbound_endpoint_id = rotate_inbound_token.inbound_endpoint_id);
end
$$;


ALTER FUNCTION collecta.rotate_inbound_token(inbound_endpoint_id text, overlap interval) OWNER TO collecta_owner;

--
-- Name: FUNCTION rotate_inbound_token(inbound_endpoint_id text, overlap interval); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.rotate_inbound_token(inbound_endpoint_id text, overlap interval) IS 'Gives an inbound endpoint a new URL and returns its path; the old one works until the overlap ends. overlap => ''0'' after a leak.';


--
-- Name: rotate_secret(text, interval, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.rotate_secret(endpoint_id text, overlap interval DEFAULT '24:00:00'::interval, secret text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  new_secret constant text := coalesce(rotate_secret.secret, collecta.new_secret());
begin
  perform collecta.check_endpoint_id(rotate_secret.endpoint_id);
  if overlap is null or overlap < interval '0' or overlap > interval '90 days' then
    raise exception using errcode = 'CW016',
      message = format('the overlap cannot be %s', coalesce(overlap::text, 'null')),
      detail = 'During the overlap receivers can change from the old secret to the new one.',
      hint = 'Choose a time between ''0'' (after a leak) and ''90 days''.';
  elsif not collecta.is_secret(new_secret) then
    raise exception using errcode = 'CW014', message = 'this secret cannot be used',
      detail = 'A secret has 1 to 512 printable characters. After whsec_ there must be base64.',
      hint = 'Leave it out, and a good one is generated and returned.';
  end if;
  update collecta.endpoint_secrets s
  set secret = new_secret,
    previous_secret = case when overlap > interval '0' then s.secret end,
    previous_until = case when overlap > interval '0' then now() + overlap end
  where s.endpoint_id = rotate_secret.endpoint_id;
  return new_secret;
end
$$;


ALTER FUNCTION collecta.rotate_secret(endpoint_id text, overlap interval, secret text) OWNER TO collecta_owner;

--
-- Name: FUNCTION rotate_secret(endpoint_id text, overlap interval, secret text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.rotate_secret(endpoint_id text, overlap interval, secret text) IS 'Gives an endpoint a new secret and returns it. If none is given, one is generated. Until the overlap ends, webhook-signature has a signature with each secret, and X-Webhook-Signature is made with the old one. Use overlap => ''0'' after a leak: then the old secret is not used any more. The secret is stored in plain text; collecta-webhooks rotate-secret seals it before it is stored.';


--
-- Name: route_again(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.route_again(endpoint_id text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  scopes constant text[] := collecta.visible_scopes();
  changes int := 0;
  deliveries int;
begin
  if route_again.endpoint_id is null and scopes is null then
    update collecta.unrouted u set again = true where u.endpoint_id = '' and u.version is not null;
    get diagnostics changes = row_count;
  end if;
  with judged as materialized (
    select u.change_id, u.position, u.endpoint_id, e.ordered, f.matches, f.reason, octet_length(v.body) as bytes
    from collecta.unrouted u
    join collecta.endpoints e on e.endpoint_id = u.endpoint_id
    join collecta.events v
      on v.event_id = u.event_id and v.payload_role = u.payload_role and v.routed_at = u.routed_at
    cross join lateral (
      select true as matches, null::text as reason where e.filter is null
      union all
      select t.matches, t.reason from collecta.try_filter(v.body, e.filter) t where e.filter is not null) f
    where u.endpoint_id <> '' and not u.again
      and (route_again.endpoint_id is null or u.endpoint_id = route_again.endpoint_id)
      and (scopes is null or v.scope = any (scopes))
  ), still as (
    update collecta.unrouted u set reason = j.reason, set_aside_at = now()
    from judged j
    where u.change_id = j.change_id and u.position = j.position and u.endpoint_id = j.endpoint_id
      and j.reason is not null
  ), routable as (
    -- For an ordered endpoint the row stays until a runner takes it back, and the record's later changes wait until
    -- then.
    update collecta.unrouted u set again = true
    from judged j
    where u.change_id = j.change_id and u.position = j.position and u.endpoint_id = j.endpoint_id
      and j.reason is null and j.ordered
    returning u.*, j.matches, j.bytes, j.ordered
  ), routed as (
    delete from collecta.unrouted u
    using judged j
    where u.change_id = j.change_id and u.position = j.position and u.endpoint_id = j.endpoint_id
      and j.reason is null and not j.ordered
    returning u.*, j.matches, j.bytes, j.ordered
  ), queued as (
    insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, payload_role, routed_at, due_at,
      record_key, bytes)
    select r.change_id, r.position, r.endpoint_id, r.event_id, r.payload_role, r.routed_at,
      case when r.ordered then 'infinity' else clock_timestamp() end, case when r.ordered then r.record_key end, r.bytes
    from (select * from routable union all select * from routed) r
    where r.matches
    order by r.change_id, r.position
  )
  select (select count(*) from routable) + (select count(*) from routed) into deliveries;
  perform collecta.wake_runner();
  return changes + deliveries;
end
$$;


ALTER FUNCTION collecta.route_again(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION route_again(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.route_again(endpoint_id text) IS 'Tries again what was set aside in collecta.unrouted, for one endpoint or for all. Returns how many are routed. A runner routes whole changes, and what ordered endpoints wait for, within a second or two.';


--
-- Name: route_aside(bigint[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.route_aside(change_ids bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with gone as (
    delete from collecta.outbox o where o.change_id = any (change_ids) returning *
  ), muted as (
    insert into collecta.muted_changes (change_id, module, operation, records, transaction_id, context, captured_at)
    select g.change_id, v.slug, g.new ->> 'operation', (g.new ->> 'records')::bigint, g.transaction_id,
      collecta.captured_context(g.context, g.traceparent), g.captured_at
    from gone g
    join collecta.module_versions v on v.version = g.version
    where g.operation = 'M'
  )
  insert into collecta.unrouted (change_id, module, record_id, record_key, version, operation, old, new,
    transaction_id, trigger_depth, captured_at, context, reason)
  select g.change_id, coalesce(r.slug, ''), r.record_id,
    case when r.record_id is not null then collecta.record_key(r.slug, r.record_id) end,
    g.version, g.operation, g.old, g.new, g.transaction_id, g.trigger_depth, g.captured_at,
    collecta.captured_context(g.context, g.traceparent), r.unroutable
  from gone g
  left join collecta.module_versions v on v.version = g.version
  cross join lateral collecta.read_change(v, g.operation, g.old, g.new) r
  where r.unroutable is not null
$$;


ALTER FUNCTION collecta.route_aside(change_ids bigint[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION route_aside(change_ids bigint[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.route_aside(change_ids bigint[]) IS 'Moves changes without events out of the outbox: it notes the muted ones in muted_changes, and sets aside those that cannot be routed.';


--
-- Name: route_change(bigint, text, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.route_change(change_id bigint, without_filters text DEFAULT NULL::text, only_try boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET lock_timeout TO '2s'
    AS $$
declare
  state text;
  reason text;
  constraint_name text;
begin
  if (select r.routed from collecta.route_changes(1, route_change.change_id, only_change => route_change.change_id,
        without_filters => route_change.without_filters) r) < 0 then
    return 'busy';
  end if;
  if only_try then
    raise exception using errcode = 'XW999';
  end if;
  return null;
exception
  when sqlstate 'XW999' then
    return null; -- and all of it is undone
  when others then
    get stacked diagnostics state = returned_sqlstate, reason = message_text, constraint_name = constraint_name;
    -- This code without a constraint's name means that no partition takes the row.
    return case when state = '23514' and constraint_name = '' then '55000' else state end || ' ' || reason;
end
$$;


ALTER FUNCTION collecta.route_change(change_id bigint, without_filters text, only_try boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION route_change(change_id bigint, without_filters text, only_try boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.route_change(change_id bigint, without_filters text, only_try boolean) IS 'For a runner whose claim failed: routes one change alone. Returns null, or SQLSTATE and message if it cannot be routed, or busy while another session routes. without_filters is a reason: filters are not evaluated, and deliveries that have one are set aside with it. With only_try nothing is changed.';


--
-- Name: route_changes(integer, bigint, bigint, pg_snapshot, bigint, text, collecta.claim_room); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.route_changes(max_changes integer DEFAULT 250, from_change bigint DEFAULT 0, settled_change bigint DEFAULT 0, in_order pg_snapshot DEFAULT NULL::pg_snapshot, only_change bigint DEFAULT NULL::bigint, without_filters text DEFAULT NULL::text, room collecta.claim_room DEFAULT NULL::collecta.claim_room) RETURNS collecta.routed_changes
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
  -- What is to be written.
  events collecta.events[];
  deliveries collecta.routed_delivery[];
  taken bigint[];
  slice_is_full boolean := false; -- no more changes now
  aside bigint[]; -- of these: what is no event (muted, unroutable)
  bytes bigint;
  leased text; -- the deliveries that are born leased, for the claim's answer
  endpoint_ids text[]; -- of what is leased
  leased_number int := 0;
  leased_bytes bigint := 0;
  least_free int; -- the smallest free of the recipients of what is leased
  reordered int[]; -- module versions whose changes are put in order apart, and not routed until then
  stopped_at bigint; -- a change that must be put in order first
  in_order_for bigint; -- the last one for which that was tried
  next_change bigint;
  ordered_endpoints text[]; -- of the deliveries to ordered endpoints, and their records
  ordered_records bigint[];
begin
  if not pg_try_advisory_xact_lock(1668246636, 2) then
    return row(-1, null, null, null, null, null, null, null, null, null, null)::collecta.routed_changes;
  end if;
  if room.deliveries > 0 then
    -- One claim at a time. What follows are new statements, and so their snapshots have the last claim in it.
    perform pg_advisory_xact_lock(1668246636, 3);
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
        is_leased := cardinality(events) <= least(recipient.free, room.per_endpoint)
          and leased_number < room.deliveries and leased_bytes < room.bytes;
        if is_leased then
          leased_number := leased_number + 1;
          leased_bytes := leased_bytes + octet_length(body);
          least_free := least(least_free, recipient.free);
        end if;
        if recipient.ordered then
          ordered_endpoints := ordered_endpoints || recipient.endpoint_id;
          ordered_records := ordered_records || collecta.record_key(reading.slug, reading.record_id);
        end if;
        deliveries := deliveries || row(nextval('collecta.delivery_queue_delivery_id_seq'), change.change_id,
          event_number - 1, recipient.endpoint_id, event_id, payload_role,
          case when recipient.ordered then ordered_records[cardinality(ordered_records)] end,
          octet_length(body), cardinality(events), recipient.free, is_leased)::collecta.routed_delivery;
      end loop;
      -- A large slice needs fewer commits; but what was leased is to be sent soon.
      slice_is_full := bytes > 8000000 or leased_number > 0 and cardinality(taken) >= 250
        or clock_timestamp() > began + interval '200 ms';
      exit when slice_is_full;
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
    ), queued as (
      insert into collecta.delivery_queue (delivery_id, change_id, position, endpoint_id, event_id, payload_role,
        routed_at, due_at, record_key, bytes, leased_until, runner)
      overriding system value
      select d.delivery_id, d.change_id, d.position, d.endpoint_id, d.event_id, d.payload_role, began,
        case when d.record_key is null then began else 'infinity' end, d.record_key, d.bytes,
        case when d.is_leased then room.leased_until end, case when d.is_leased then room.runner end
      from unnest(deliveries) d
    )
    -- This builds arrays without aggregates. Preparing an aggregate would take longer than routing a single change.
    select array_to_string(array(
        select collecta.claimed_delivery(d.delivery_id, d.endpoint_id, d.event_id, cardinality(events) >= d.free,
          (events[d.event]).body)
        from unnest(deliveries) d where d.is_leased), chr(30)),
      array(select d.endpoint_id from unnest(deliveries) d where d.is_leased)
    into leased, endpoint_ids;
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
    slice_is_full or stopped_at is not null or cardinality(taken) >= max_changes, in_order, nullif(leased, ''),
    leased_number, leased_bytes, endpoint_ids, cardinality(events) >= least_free,
    leased_number < coalesce(cardinality(deliveries), 0), reordered is not null)::collecta.routed_changes;
end
$$;


ALTER FUNCTION collecta.route_changes(max_changes integer, from_change bigint, settled_change bigint, in_order pg_snapshot, only_change bigint, without_filters text, room collecta.claim_room) OWNER TO collecta_owner;

--
-- Name: FUNCTION route_changes(max_changes integer, from_change bigint, settled_change bigint, in_order pg_snapshot, only_change bigint, without_filters text, room collecta.claim_room); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.route_changes(max_changes integer, from_change bigint, settled_change bigint, in_order pg_snapshot, only_change bigint, without_filters text, room collecta.claim_room) IS 'Turns captured changes into events and queue rows; claim_deliveries calls it. from_change is a hint where to begin
(0: the whole); from settled_change on, a hint for where records are in order, a change may still appear before it; what
is visible in in_order is in order (put_in_order). only_change routes one change alone; without_filters, a reason, sets
aside what filters would have to judge. room: what may be born leased. routed is -1 while another session routes; more:
it ended before the outbox did; next_change is the next call''s hint; waiting: more became due than was leased.';


--
-- Name: row_columns(oid, text, text[], boolean, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.row_columns(relation oid, alias text, omitted text[], as_text boolean DEFAULT false, wanted text[] DEFAULT NULL::text[]) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select string_agg(
    collecta.column_expression(alias || '.' || quote_ident(a.attname), a.atttypid, as_text)
      || ' as ' || quote_ident(a.attname), ', ' order by a.attnum)
  from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    and a.attname <> all (omitted) and (wanted is null or a.attname = any (wanted))
$$;


ALTER FUNCTION collecta.row_columns(relation oid, alias text, omitted text[], as_text boolean, wanted text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION row_columns(relation oid, alias text, omitted text[], as_text boolean, wanted text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.row_columns(relation oid, alias text, omitted text[], as_text boolean, wanted text[]) IS 'Returns the select list that captures a row of a table column by column.';


--
-- Name: row_size(oid, text, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.row_size(relation oid, alias text, omitted text[]) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- octet_length of text and bytea reads the length without decompressing.
  select coalesce(string_agg(
    format(case when a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype)
      then 'coalesce(octet_length(%s.%I), 0)::bigint' else 'coalesce(pg_column_size(%s.%I), 0)::bigint' end,
      alias, a.attname), ' + ' order by a.attnum), '0')
  from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attlen = -1 and a.attgenerated <> 'v'
    and a.attname <> all (omitted)
$$;


ALTER FUNCTION collecta.row_size(relation oid, alias text, omitted text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION row_size(relation oid, alias text, omitted text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.row_size(relation oid, alias text, omitted text[]) IS 'Returns the expression that estimates a row''s size before anything is decompressed.';


--
-- Name: row_statement(collecta.module_versions, oid, text[], text, text, boolean, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  thin_row constant text := format(
    '(select row_to_json(coalesce("collecta thin".*)) '
    'from (select %strue as "$truncated", %s as "$custom_data_changed") "collecta thin")',
    -- As text, because the columns' types are not known under an old snapshot.
    collecta.row_columns(relation, alias, omitted, true,
      module.key_columns || module.status_column || module.scope_column) || ', ',
    case when compared and exists (select from pg_catalog.pg_attribute a where a.attrelid = relation
        and a.attname = module.custom_data_column and a.attname <> all (omitted) and not a.attisdropped)
      then format('coalesce(row(%1$s.%3$I)::record *<> row(%2$s.%3$I)::record, false)', alias, other,
        module.custom_data_column)
      else 'false' end);
begin
  if thin then
    return thin_row;
  end if;
  -- A value of a type that is not built in may fail. If the written row function fits the columns as they are, it is
  -- used, because it guards each row, and such a value does not affect the other rows of the statement.
  if exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
        and collecta.type_kind(a.atttypid) <> 'built in')
    and exists (
      select from pg_catalog.pg_proc p
      where p.oid = to_regprocedure(format('collecta_rows.row_%s(record, record)', module.module_id))
        and strpos(p.prosrc, collecta.table_layout(relation)) > 0)
  then
    return format('collecta_rows.row_%s(%s.*, %s.*)', module.module_id, alias,
      case when compared then other else alias end);
  end if;
  return format('case when %1$s <= %2$s then '
    '(select row_to_json(coalesce("collecta all".*)) from (select %3$s) "collecta all") else %4$s end',
    collecta.row_size(relation, alias, omitted), (select s.max_record_bytes from collecta.settings s),
    collecta.row_columns(relation, alias, omitted), thin_row);
end
$_$;


ALTER FUNCTION collecta.row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean) IS 'Returns the expression that captures one row, completely if it is not too large.';


--
-- Name: inbound_endpoints; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_endpoints (
    inbound_endpoint_id text NOT NULL COLLATE pg_catalog."C",
    module text NOT NULL COLLATE pg_catalog."C",
    relation regclass NOT NULL,
    mapping jsonb NOT NULL,
    mapping_version integer DEFAULT 1 NOT NULL,
    match_columns text[] NOT NULL COLLATE pg_catalog."C",
    match_where text COLLATE pg_catalog."C",
    sender text DEFAULT 'collecta'::text NOT NULL COLLATE pg_catalog."C",
    require_signature collecta.signature_rule DEFAULT 'false'::collecta.signature_rule NOT NULL,
    each text COLLATE pg_catalog."C",
    each_alone boolean DEFAULT false NOT NULL,
    max_elements integer DEFAULT 1000 NOT NULL,
    events text[] COLLATE pg_catalog."C",
    keep_ignored boolean DEFAULT true NOT NULL,
    digest_window interval,
    state text DEFAULT 'active'::text NOT NULL COLLATE pg_catalog."C",
    rate_limit_per_minute integer NOT NULL,
    max_body_bytes integer NOT NULL,
    function_number integer NOT NULL,
    columns text[] NOT NULL COLLATE pg_catalog."C",
    scalar_columns text[] DEFAULT '{}'::text[] NOT NULL COLLATE pg_catalog."C",
    writer name DEFAULT 'collecta_writer'::name NOT NULL,
    written_for text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    functions_are_current boolean DEFAULT false NOT NULL,
    written_hash text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    grouped boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT inbound_endpoints_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'paused'::text, 'deleted'::text])))
);


ALTER TABLE collecta.inbound_endpoints OWNER TO collecta_owner;

--
-- Name: TABLE inbound_endpoints; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_endpoints IS 'Where payloads come in and become records of a module. Made with create_inbound_endpoint; deleted ones keep their row, their id is never used again.';


--
-- Name: COLUMN inbound_endpoints.module; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.module IS 'The slug in its URL. It answers only while that module is attached to the same table.';


--
-- Name: COLUMN inbound_endpoints.mapping; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.mapping IS 'As it was given: {"$.payload.sku": "product_code"} or {"product_code": {"path": "$.payload.sku", "required": true}}.';


--
-- Name: COLUMN inbound_endpoints.mapping_version; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.mapping_version IS 'Counts changes. A stored request has the version that mapped it.';


--
-- Name: COLUMN inbound_endpoints.match_columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.match_columns IS 'A record whose columns equal the payload''s is updated; empty: every request makes a record.';


--
-- Name: COLUMN inbound_endpoints.match_where; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.match_where IS 'Only records of which this is true can be matched: an SQL expression over the table''s columns.';


--
-- Name: COLUMN inbound_endpoints.sender; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.sender IS 'The row of inbound_senders that says how its requests are signed and numbered.';


--
-- Name: COLUMN inbound_endpoints.require_signature; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.require_signature IS 'true: a signature is asked for; standard: one that covers id and time; false: only where there is a secret.';


--
-- Name: COLUMN inbound_endpoints.each; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.each IS 'The array whose elements are the records; null: the payload is one.';


--
-- Name: COLUMN inbound_endpoints.each_alone; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.each_alone IS 'Whether an element that cannot be written leaves the others alone; else all of a payload are written, or none.';


--
-- Name: COLUMN inbound_endpoints.max_elements; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.max_elements IS 'More elements than this in one payload are refused.';


--
-- Name: COLUMN inbound_endpoints.events; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.events IS 'The events that become records; null: all but the sender''s ignored ones. Others are answered and kept as ignored.';


--
-- Name: COLUMN inbound_endpoints.keep_ignored; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.keep_ignored IS 'Whether ignored events are kept in inbound_requests.';


--
-- Name: COLUMN inbound_endpoints.digest_window; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.digest_window IS 'How long the same body again is answered as it was the first time. Null: a day if the signature covers neither an id nor a time, otherwise not at all. 0: not at all.';


--
-- Name: COLUMN inbound_endpoints.state; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.state IS 'active; paused (answers 404, as if it were not there); deleted.';


--
-- Name: COLUMN inbound_endpoints.rate_limit_per_minute; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.rate_limit_per_minute IS 'Requests in any span of 60 seconds, over all runners.';


--
-- Name: COLUMN inbound_endpoints.function_number; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.function_number IS 'Names its functions: map_inbound_<n>, write_inbound_<n>, cast_inbound_<n> and accept_inbound_<n>.';


--
-- Name: COLUMN inbound_endpoints.columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.columns IS 'The mapped columns.';


--
-- Name: COLUMN inbound_endpoints.scalar_columns; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.scalar_columns IS 'The mapped columns whose types cannot store an object or an array.';


--
-- Name: COLUMN inbound_endpoints.writer; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.writer IS 'The role that its functions run as, and with them the table''s triggers, checks, defaults and casts.';


--
-- Name: COLUMN inbound_endpoints.written_for; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.written_for IS 'What its functions were written for (module version, unique indexes, column types); they are written anew when it no longer holds.';


--
-- Name: COLUMN inbound_endpoints.functions_are_current; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.functions_are_current IS 'Whether its functions were written for the module as it is attached now.';


--
-- Name: COLUMN inbound_endpoints.written_hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.written_hash IS 'A hash of its generated functions. If one is altered or dropped, the hash differs: collecta.health says so, and the functions are written again.';


--
-- Name: COLUMN inbound_endpoints.grouped; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_endpoints.grouped IS 'Whether several requests may be written in one transaction: not where the table has triggers, rules, row security or deferrable constraints of its own, or a record is matched without a unique index.';


--
-- Name: save_inbound_endpoint(collecta.inbound_endpoints, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  sender collecta.inbound_senders;
  wrong text;
begin
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
      hint = 'select * from collecta.create_inbound_endpoint(''work-orders'', ''{"$.payload.sku": "product_code"}'', '
        'rate_limit_per_minute => 60);';
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
$_$;


ALTER FUNCTION collecta.save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer) IS 'The part of create_inbound_endpoint and update_inbound_endpoint in collecta''s own tables: a row without an id is new.';


--
-- Name: save_module(regclass, text, text, text, text, text[], text[], text[], boolean, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


ALTER FUNCTION collecta.save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text) IS 'Writes collecta''s own tables for attach_module: a new version of the module, its subscriptions, and its capture functions.';


--
-- Name: save_sender_presets(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.save_sender_presets() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
insert into collecta.inbound_senders as known
  (sender, about, documentation, signatures, ids, event, ignored_events, handshakes, content_types, form_field, each,
   shipped)
values
  ('collecta', 'collecta-webhooks itself, and whoever signs as it does',
   'https://www.standardwebhooks.com',
   '[{"in": "header:webhook-signature", "prefix": "v1,", "separator": " ", "encoding": "base64",
     "key": "base64", "signed": "{id}.{timestamp}.{body}", "id": "header:webhook-id",
     "timestamp": "header:webhook-timestamp"},
    {"in": "header:x-webhook-signature", "prefix": "sha256=", "signed": "{body}"}]',
   '{header:webhook-id}', null,
   '{}', '[]',
   '{json,form}', null, null, true),
  ('standard-webhooks', 'Standard Webhooks, also with svix- headers',
   'https://github.com/standard-webhooks/standard-webhooks',
   '[{"in": "header:webhook-signature", "prefix": "v1,", "separator": " ", "encoding": "base64",
     "key": "base64", "signed": "{id}.{timestamp}.{body}", "id": "header:webhook-id",
     "timestamp": "header:webhook-timestamp"},
    {"in": "header:svix-signature", "prefix": "v1,", "separator": " ", "encoding": "base64",
     "key": "base64", "signed": "{id}.{timestamp}.{body}", "id": "header:svix-id",
     "timestamp": "header:svix-timestamp"}]',
   '{header:webhook-id,header:svix-id}', null,
   '{}', '[]',
   '{json,form}', null, null, true),
  ('stripe', 'Stripe',
   'https://docs.stripe.com/webhooks/signature',
   '[{"in": "header:stripe-signature", "prefix": "v1=", "separator": ",", "timestamp": "signature:t=",
     "signed": "{timestamp}.{body}"}]',
   '{$.id}', '$.type',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('github', 'GitHub',
   'https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries',
   '[{"in": "header:x-hub-signature-256", "prefix": "sha256=", "signed": "{body}"}]',
   '{header:x-github-delivery}', 'header:x-github-event',
   '{ping}', '[]',
   '{json,form}', 'payload', null, true),
  ('gitlab', 'GitLab, with a signing token or a secret token',
   'https://docs.gitlab.com/user/project/integrations/webhooks/',
   '[{"in": "header:webhook-signature", "prefix": "v1,", "separator": " ", "encoding": "base64",
     "key": "base64", "signed": "{id}.{timestamp}.{body}", "id": "header:webhook-id",
     "timestamp": "header:webhook-timestamp"},
    {"in": "header:x-gitlab-token", "encoding": "plain"}]',
   '{header:webhook-id,header:idempotency-key}', 'header:x-gitlab-event',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('gitea', 'Gitea and Forgejo',
   'https://forgejo.org/docs/latest/user/webhooks/',
   '[{"in": "header:x-forgejo-signature", "signed": "{body}"},
    {"in": "header:x-gitea-signature", "signed": "{body}"}]',
   '{header:x-forgejo-delivery,header:x-gitea-delivery}', 'header:x-gitea-event',
   '{}', '[]',
   '{json,form}', 'payload', null, true),
  ('shopify', 'Shopify',
   'https://shopify.dev/docs/apps/build/webhooks/verify-deliveries',
   '[{"in": "header:x-shopify-hmac-sha256", "encoding": "base64", "signed": "{body}"}]',
   '{header:x-shopify-webhook-id}', 'header:x-shopify-topic',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('slack', 'Slack Events API',
   'https://docs.slack.dev/authentication/verifying-requests-from-slack',
   '[{"in": "header:x-slack-signature", "prefix": "v0=", "timestamp": "header:x-slack-request-timestamp",
     "signed": "v0:{timestamp}:{body}"}]',
   '{$.event_id}', '$.event.type',
   '{}', '[{"when": {"$.type": "url_verification"}, "answer": "{$.challenge}", "signed": true}]',
   '{json,form}', null, null, true),
  ('twilio', 'Twilio',
   'https://www.twilio.com/docs/usage/webhooks/webhooks-security',
   '[{"in": "header:x-twilio-signature", "encoding": "base64", "hash": "sha1", "signed": "{url}{form}"}]',
   '{header:i-twilio-idempotency-token}', null,
   '{}', '[]',
   '{json,form}', null, null, true),
  ('mailgun', 'Mailgun, which signs a token and a time but not the rest of the body',
   'https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks',
   '[{"in": "$.signature.signature", "timestamp": "$.signature.timestamp", "id": "$.signature.token",
     "signed": "{timestamp}{id}"}]',
   '{$.signature.token}', '$[''event-data''].event',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('pagerduty', 'PagerDuty v3',
   'https://developer.pagerduty.com/docs/verifying-webhook-signatures',
   '[{"in": "header:x-pagerduty-signature", "prefix": "v1=", "separator": ",", "signed": "{body}"}]',
   '{$.event.id}', '$.event.event_type',
   '{pagey.ping}', '[]',
   '{json,form}', null, null, true),
  ('jira', 'Jira, webhooks that an administrator made',
   'https://developer.atlassian.com/cloud/jira/platform/webhooks/',
   '[{"in": "header:x-hub-signature", "prefix": "sha256=", "signed": "{body}"}]',
   '{header:x-atlassian-webhook-identifier}', '$.webhookEvent',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('typeform', 'Typeform',
   'https://www.typeform.com/developers/webhooks/secure-your-webhooks/',
   '[{"in": "header:typeform-signature", "prefix": "sha256=", "encoding": "base64", "signed": "{body}"}]',
   '{$.event_id}', '$.event_type',
   '{}', '[]',
   '{json,form}', null, null, true),
  ('discourse', 'Discourse',
   'https://meta.discourse.org/t/49045',
   '[{"in": "header:x-discourse-event-signature", "prefix": "sha256=", "signed": "{body}"}]',
   '{header:x-discourse-event-id}', 'header:x-discourse-event',
   '{ping}', '[]',
   '{json,form}', null, null, true),
  ('meta', 'Meta: WhatsApp, Messenger, Instagram',
   'https://developers.facebook.com/docs/graph-api/webhooks/getting-started',
   '[{"in": "header:x-hub-signature-256", "prefix": "sha256=", "signed": "{body}"}]',
   '{}', null,
   '{}', '[{"method": "GET", "when": {"query:hub.mode": "subscribe", "query:hub.verify_token": "{token}"},
     "answer": "{query:hub.challenge}"}]',
   '{json,form}', null, '$.entry', true),
  ('microsoft-graph', 'Microsoft Graph; the secret is the clientState',
   'https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks',
   '[{"in": "$.value[*].clientState", "encoding": "plain"}]',
   '{}', null,
   '{}', '[{"when": {"query:validationToken": true}, "answer": "{query:validationToken}"}]',
   '{json,form}', null, '$.value', true),
  ('amazon-sns', 'Amazon SNS; certificate signatures are not checked, only the token in the URL',
   'https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html',
   '[]',
   '{header:x-amz-sns-message-id}', 'header:x-amz-sns-message-type',
   '{SubscriptionConfirmation,UnsubscribeConfirmation}', '[]',
   '{json,form,text}', null, null, true),
  ('zapier', 'Zapier, which signs nothing: only the token in the URL',
   'https://help.zapier.com/hc/en-us/articles/8496326446989',
   '[]',
   '{}', null,
   '{}', '[]',
   '{json,form}', null, null, true)
on conflict on constraint inbound_senders_pkey do update
set about = excluded.about, documentation = excluded.documentation, signatures = excluded.signatures,
  ids = excluded.ids, event = excluded.event, ignored_events = excluded.ignored_events,
  handshakes = excluded.handshakes, content_types = excluded.content_types, form_field = excluded.form_field,
  each = excluded.each
where known.shipped;
$_$;


ALTER FUNCTION collecta.save_sender_presets() OWNER TO collecta_owner;

--
-- Name: FUNCTION save_sender_presets(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.save_sender_presets() IS 'Writes the presets that are shipped into collecta.inbound_senders.';


--
-- Name: sealing_keys(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.sealing_keys() RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  select coalesce(array_agg(distinct split_part(v.sealed, ':', 3)), '{}')
  from (
    select unnest(array[
      s.secret, case when s.previous_until > now() then s.previous_secret end, s.headers #>> '{}']) as sealed
    from collecta.endpoint_secrets s
    union all
    select unnest(array[s.secret, case when s.previous_secret_until > now() then s.previous_secret end])
    from collecta.inbound_secrets s) v
  where v.sealed like 'sealed:%'
$$;


ALTER FUNCTION collecta.sealing_keys() OWNER TO collecta_owner;

--
-- Name: FUNCTION sealing_keys(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.sealing_keys() IS 'Returns the ids of the keys that sealed the secrets in use. Runners check that they have these keys.';


--
-- Name: sees_old_catalog(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.sees_old_catalog(relation oid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  -- A row that was changed since our snapshot was taken has an xmax.
  select current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
    and (exists (select from pg_catalog.pg_class c where c.oid = relation and c.xmax <> 0)
      or exists (select from pg_catalog.pg_attribute a where a.attrelid = relation and a.xmax <> 0))
$$;


ALTER FUNCTION collecta.sees_old_catalog(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION sees_old_catalog(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.sees_old_catalog(relation oid) IS 'Whether the transaction''s snapshot is older than the last DDL on a table (REPEATABLE READ, SERIALIZABLE).';


--
-- Name: send_alert(text, text, jsonb); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.send_alert(event text, subject text, detail jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
declare
  recipients constant text[] := array(
    select e.endpoint_id from collecta.endpoints e
    where e.state <> 'deleted' and event = any (e.events) and e.endpoint_id <> subject
      and e.scope is null and e.payload_role = ''
    order by 1);
  event_id constant text := collecta.new_id('evt');
  sent_at constant timestamptz := clock_timestamp();
  change bigint;
begin
  if recipients = '{}' then
    return;
  end if;
  change := nextval('collecta.outbox_change_id_seq');
  insert into collecta.events (event_id, routed_at, sequence, position, module, event, record_id, occurred_at, body)
  values (event_id, sent_at, change, 0, 'collecta', event, nullif(subject, ''), sent_at,
    format('{"id":"%s","event":"%s","occurred_at":"%s","module":"collecta","record_id":%s,"record":%s}', event_id,
      event, to_char(sent_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      coalesce(to_json(nullif(subject, ''))::text, 'null'), detail));
  insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at)
  select change, 0, r, event_id, sent_at, sent_at from unnest(recipients) r;
  perform collecta.wake_runner();
end
$$;


ALTER FUNCTION collecta.send_alert(event text, subject text, detail jsonb) OWNER TO collecta_owner;

--
-- Name: FUNCTION send_alert(event text, subject text, detail jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.send_alert(event text, subject text, detail jsonb) IS 'Queues one alert for every endpoint that subscribes to it.';


--
-- Name: send_test_event(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.send_test_event(endpoint_id text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
declare
  made constant text := collecta.new_id('evt');
  sequence constant bigint := nextval('collecta.outbox_change_id_seq');
  present constant timestamptz := clock_timestamp();
  body constant text := collecta.event_body(made, 'test', sequence, present, 'test', null, null, null,
    '{"message":"A test event of collecta-webhooks."}', null, '');
begin
  perform collecta.check_endpoint_id(send_test_event.endpoint_id);
  insert into collecta.events (event_id, routed_at, sequence, position, module, event, scope, occurred_at, body)
  values (made, present, sequence, 0, 'test', 'test',
    (select e.scope from collecta.endpoints e where e.endpoint_id = send_test_event.endpoint_id), present, body);
  insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at, bytes)
  values (sequence, 0, send_test_event.endpoint_id, made, present, present, octet_length(body));
  perform collecta.wake_runner();
  return made;
end
$$;


ALTER FUNCTION collecta.send_test_event(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION send_test_event(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.send_test_event(endpoint_id text) IS 'Queues an event named test for an endpoint and returns its id, by which webhook_deliveries.event_id shows what happened.';


--
-- Name: set_aside_change(bigint, text, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.set_aside_change(change_id bigint, reason text, read_key boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
#variable_conflict use_column
begin
  perform pg_advisory_xact_lock(1668246636, 2);
  with moved as (
    delete from collecta.outbox o where o.change_id = set_aside_change.change_id returning *
  )
  insert into collecta.unrouted (change_id, module, record_id, record_key, version, operation, old, new,
    transaction_id, trigger_depth, captured_at, context, reason)
  select m.change_id, coalesce(v.slug, ''), k.record_id,
    case when k.record_id is not null then collecta.record_key(v.slug, k.record_id) end,
    m.version, m.operation, m.old, m.new, m.transaction_id, m.trigger_depth, m.captured_at,
    collecta.captured_context(m.context, m.traceparent), left(set_aside_change.reason, 1000)
  from moved m
  left join collecta.module_versions v on v.version = m.version
  left join lateral (
    select coalesce(r.new_id, r.old_id) as record_id
    from collecta.record_ids(m.old, m.new, v.key_columns) r) k on set_aside_change.read_key
  on conflict on constraint unrouted_pkey do nothing;
  return found;
end
$$;


ALTER FUNCTION collecta.set_aside_change(change_id bigint, reason text, read_key boolean) OWNER TO collecta_owner;

--
-- Name: FUNCTION set_aside_change(change_id bigint, reason text, read_key boolean); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.set_aside_change(change_id bigint, reason text, read_key boolean) IS 'For runners: moves one change from the outbox to collecta.unrouted. With read_key the record is noted, so that ordered endpoints wait for it. Without it, nothing that the change holds is read.';


--
-- Name: set_aside_deliveries(bigint[], text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.set_aside_deliveries(ids bigint[], reason text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  moved int;
begin
  with gone as (
    delete from collecta.delivery_queue q where q.delivery_id = any (ids) returning *
  )
  insert into collecta.unrouted (change_id, position, endpoint_id, module, record_id, record_key, event_id,
    payload_role, routed_at, reason)
  select g.change_id, g.position, g.endpoint_id, coalesce(e.module, ''), e.record_id, g.record_key, g.event_id,
    g.payload_role, g.routed_at, left(set_aside_deliveries.reason, 1000)
  from gone g
  left join collecta.events e
    on e.event_id = g.event_id and e.payload_role = g.payload_role and e.routed_at = g.routed_at
  on conflict on constraint unrouted_pkey do update set reason = excluded.reason, again = false;
  get diagnostics moved = row_count;
  return moved;
end
$$;


ALTER FUNCTION collecta.set_aside_deliveries(ids bigint[], reason text) OWNER TO collecta_owner;

--
-- Name: FUNCTION set_aside_deliveries(ids bigint[], reason text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.set_aside_deliveries(ids bigint[], reason text) IS 'For runners: moves deliveries that cannot be claimed from the queue to collecta.unrouted. Other endpoints still get the same events.';


--
-- Name: set_inbound_state(text, text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.set_inbound_state(inbound_endpoint_id text, state text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  number int;
begin
  perform collecta.check_inbound_endpoint_id(set_inbound_state.inbound_endpoint_id);
  -- A request holds a row of the budget when it locks the endpoint, so the budget comes first here too.
  delete from collecta.inbound_budgets b
  where b.inbound_endpoint_id = set_inbound_state.inbound_endpoint_id and set_inbound_state.state = 'deleted';
  update collecta.inbound_endpoints e set state = set_inbound_state.state
  where e.inbound_endpoint_id = set_inbound_state.inbound_endpoint_id
  returning e.function_number into number;
  perform pg_notify('collecta_inbound', '');
  return number;
end
$$;


ALTER FUNCTION collecta.set_inbound_state(inbound_endpoint_id text, state text) OWNER TO collecta_owner;

--
-- Name: FUNCTION set_inbound_state(inbound_endpoint_id text, state text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.set_inbound_state(inbound_endpoint_id text, state text) IS 'The part of pausing, resuming and deleting in collecta''s own tables.';


--
-- Name: shard_nodes(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.shard_nodes(relation regclass) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(string_agg(distinct s.node, ', '), 'no node')
  from (select relation as relid union select p.relid from pg_partition_tree(relation) p) t
  cross join lateral collecta.shards_of(t.relid) s
$$;


ALTER FUNCTION collecta.shard_nodes(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION shard_nodes(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.shard_nodes(relation regclass) IS 'Returns the nodes that have shards of a distributed table.';


--
-- Name: shards_of(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.shards_of(relation regclass) RETURNS TABLE(shard_id bigint, node text, is_here boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if not collecta.is_distributed(relation) then
    return;
  end if;
  return query execute format('
    select s.shardid, coalesce(n.nodename || '':'' || n.nodeport, ''group '' || p.groupid),
      p.groupid in (select l.groupid from %s l)
    from %s s join %s p on p.shardid = s.shardid
    left join %s n on n.groupid = p.groupid and n.noderole::text = ''primary''
    where s.logicalrelid = $1',
    to_regclass('pg_catalog.pg_dist_local_group'), to_regclass('pg_catalog.pg_dist_shard'),
    to_regclass('pg_catalog.pg_dist_placement'), to_regclass('pg_catalog.pg_dist_node')) using relation;
end
$_$;


ALTER FUNCTION collecta.shards_of(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION shards_of(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.shards_of(relation regclass) IS 'Returns the placed shards of a distributed table, and which of them are on this node.';


--
-- Name: subscribe_endpoint(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.subscribe_endpoint(endpoint_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  affected int[];
begin
  -- The capture functions are generated from the subscriptions. This lock makes both change together, in one session at
  -- a time.
  perform pg_advisory_xact_lock(1668246636, 5);
  with wanted as (
    select m.module_id, event, e.endpoint_id, e.scope
    from collecta.endpoints e
    cross join lateral unnest(e.events) event
    join collecta.modules m on e.modules is null or m.slug = any (e.modules)
    where e.endpoint_id = subscribe_endpoint.endpoint_id and e.state <> 'deleted'
      -- Alerts belong to no module.
      and event <> all (collecta.alert_events())
    group by 1, 2, 3, 4
  ), deleted as (
    delete from collecta.subscriptions s
    where s.endpoint_id = subscribe_endpoint.endpoint_id
      -- The last changes of a detached module may not be routed yet, so its subscriptions are kept.
      and exists (select from collecta.modules m where m.module_id = s.module_id)
      and not exists (select from wanted w where w.module_id = s.module_id and w.event = s.event)
    returning s.module_id
  ), saved as (
    insert into collecta.subscriptions as s (module_id, event, endpoint_id, scope, after_change_id)
    select module_id, event, endpoint_id, scope, collecta.last_change_id() from wanted
    on conflict on constraint subscriptions_pkey do update set scope = excluded.scope
    returning s.module_id
  )
  select array_agg(distinct module_id) into affected
  from (select module_id from deleted union all select module_id from saved) m;
  perform collecta.write_capture_functions(module_id) from unnest(affected) module_id;
end
$$;


ALTER FUNCTION collecta.subscribe_endpoint(endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION subscribe_endpoint(endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.subscribe_endpoint(endpoint_id text) IS 'Updates subscriptions and capture functions to an endpoint''s events and modules.';


--
-- Name: table_layout(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.table_layout(relation oid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select md5(string_agg(concat_ws(' ', a.attnum, a.atttypid, a.attgenerated, a.attname), ',' order by a.attnum))
  from pg_catalog.pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;


ALTER FUNCTION collecta.table_layout(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION table_layout(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.table_layout(relation oid) IS 'Returns a table''s columns as text, for comparison.';


--
-- Name: take_back(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.take_back() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  last_change bigint;
  endpoint_ids text[];
  record_keys bigint[];
begin
  if not pg_try_advisory_xact_lock(1668246636, 2) then
    return;
  end if;
  with change as (
    delete from collecta.unrouted u
    where u.endpoint_id = '' and u.change_id in (
      select a.change_id from collecta.unrouted a where a.again and a.endpoint_id = '' order by a.change_id limit 50)
    returning *
  ), back as (
    insert into collecta.outbox (change_id, version, operation, old, new, transaction_id, trigger_depth, captured_at,
      context)
    overriding system value
    select c.change_id, c.version, c.operation, c.old, c.new, c.transaction_id, c.trigger_depth, c.captured_at,
      c.context
    from change c
    returning change_id
  )
  select max(b.change_id), array_agg(q.endpoint_id), array_agg(q.record_key)
  into last_change, endpoint_ids, record_keys
  from back b
  join change c on c.change_id = b.change_id
  left join collecta.delivery_queue q on q.record_key = c.record_key and q.due_at = 'infinity';
  begin
    for i in 1 .. 50 loop
      exit when not exists (select from collecta.outbox o where o.change_id <= last_change)
        -- What remains belongs to a module that put_module_in_order puts in order first.
        or (select r.routed from collecta.route_changes(50) r) = 0;
    end loop;
  exception when others then
    null; -- It stays in the outbox, where the runner finds out which change fails.
  end;
  with delivery as (
    delete from collecta.unrouted u where u.again and u.endpoint_id <> '' returning u.endpoint_id, u.record_key
  )
  select endpoint_ids || array_agg(d.endpoint_id), record_keys || array_agg(d.record_key)
  into endpoint_ids, record_keys
  from delivery d;
  perform collecta.promote_next(endpoint_ids, record_keys);
end
$$;


ALTER FUNCTION collecta.take_back() OWNER TO collecta_owner;

--
-- Name: FUNCTION take_back(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.take_back() IS 'Routes what route_again() marked, and makes due what waited for it.';


--
-- Name: take_inbound_budget(text, integer, integer, timestamp with time zone); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_sort TO 'off'
    AS $$
#variable_conflict use_column
declare
  first constant int := random() * rate_limit;
  found_now int;
  taken int := 0;
begin
  for part in 1 .. 2 loop
    update collecta.inbound_budgets b set taken_at = arrived
    where b.ctid = any (array(
      select f.ctid from collecta.inbound_budgets f
      where f.inbound_endpoint_id = take_inbound_budget.inbound_endpoint_id
        and f.slot >= case part when 1 then first else 0 end and f.slot < case part when 1 then 60001 else first end
        and f.taken_at < arrived - interval '60 s'
      order by f.slot limit wanted - taken
      for update skip locked));
    get diagnostics found_now = row_count;
    taken := taken + found_now;
    exit when taken = wanted;
  end loop;
  return taken;
end
$$;


ALTER FUNCTION collecta.take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone) OWNER TO collecta_owner;

--
-- Name: FUNCTION take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone) IS 'Takes as many requests as wanted from an endpoint''s rate budget, or as many as are left; returns their number.';


--
-- Name: test_inbound_mapping(text, json); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.test_inbound_mapping(inbound_endpoint_id text, payload json) RETURNS TABLE(column_name text, source text, type text, value text, problem text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET transform_null_equals TO 'off'
    AS $_$
#variable_conflict use_column
declare
  field record;
  at_path json;
  found json;
  input json;
begin
  perform collecta.check_inbound_endpoint_id(test_inbound_mapping.inbound_endpoint_id);
  for field in
    select f.*, e.function_number, format_type(a.atttypid, a.atttypmod) as type,
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
    problem := coalesce(case when field.required and found is null then 'it is required' end,
      collecta.inbound_cast_problem(test_inbound_mapping.inbound_endpoint_id, field.column_name, input));
    value := null;
    if problem is null and found is not null then
      execute format('select collecta.cast_inbound_%s($1, $2)', field.function_number) into value using input,
        field.column_name;
    end if;
    return next;
  end loop;
end
$_$;


ALTER FUNCTION collecta.test_inbound_mapping(inbound_endpoint_id text, payload json) OWNER TO collecta_owner;

--
-- Name: FUNCTION test_inbound_mapping(inbound_endpoint_id text, payload json); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.test_inbound_mapping(inbound_endpoint_id text, payload json) IS 'What a payload would write, column by column, without writing: where the value comes from (a path, default, constant, or missing: left alone on update, the table''s default on insert), the value as the column''s type prints it, and the problem if it cannot be stored.';


--
-- Name: truncate_problem(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.truncate_problem(relation oid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  capturer constant name := collecta.capturing_role();
  capturer_id constant oid := (select r.oid from pg_catalog.pg_roles r where r.rolname = capturer);
  class pg_catalog.pg_class;
  code text;
begin
  select c.* into class from pg_catalog.pg_class c where c.oid = relation;
  if not has_schema_privilege(capturer, class.relnamespace, 'usage') then
    return format('%I has no USAGE on schema %I', capturer, class.relnamespace::regnamespace::text);
  elsif not has_table_privilege(capturer, class.oid, 'select') then
    return format('%I has no SELECT on %s', capturer, class.oid::regclass);
  elsif class.relrowsecurity
    and not (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.oid = capturer_id)
    and not (pg_has_role(capturer, class.relowner, 'usage') and not class.relforcerowsecurity)
    and (exists (select from pg_catalog.pg_policy p
        where p.polrelid = class.oid and not p.polpermissive and p.polcmd in ('r', '*'))
      or not exists (
        select from pg_catalog.pg_policy p
        where p.polrelid = class.oid and p.polpermissive and p.polcmd in ('r', '*')
          and (p.polroles = '{0}' or capturer_id = any (p.polroles))
          and pg_get_expr(p.polqual, p.polrelid) = 'true'))
  then
    return format('row security hides records of %s from %I', class.oid::regclass, capturer);
  end if;
  with part (classid, objid) as (
    select 'pg_catalog.pg_class'::regclass, i.indexrelid from pg_catalog.pg_index i
    where i.indrelid = relation and (i.indexprs is not null or i.indpred is not null)
    union all
    select 'pg_catalog.pg_statistic_ext'::regclass, s.oid from pg_catalog.pg_statistic_ext s
    where s.stxrelid = relation and s.stxexprs is not null
    union all
    select 'pg_catalog.pg_policy'::regclass, p.oid from pg_catalog.pg_policy p
    where p.polrelid = relation and class.relrowsecurity
  )
  select coalesce(f.oid::regprocedure::text, t.oid::regtype::text) into code
  from part
  join pg_catalog.pg_depend d on d.classid = part.classid and d.objid = part.objid
  left join pg_catalog.pg_operator o on d.refclassid = 'pg_catalog.pg_operator'::regclass and o.oid = d.refobjid
  left join pg_catalog.pg_proc f on f.oid = coalesce(o.oprcode, case
    when d.refclassid = 'pg_catalog.pg_proc'::regclass then d.refobjid end)
  left join pg_catalog.pg_type t on d.refclassid = 'pg_catalog.pg_type'::regclass and t.oid = d.refobjid
  join pg_catalog.pg_roles r on r.oid = coalesce(f.proowner, t.typowner) and not r.rolsuper
  limit 1;
  return case when code is not null
    then format('%s belongs to an ordinary role, whose code must not run as %I', code, capturer) end;
end
$$;


ALTER FUNCTION collecta.truncate_problem(relation oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION truncate_problem(relation oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.truncate_problem(relation oid) IS 'Returns why the records of a TRUNCATE cannot be captured one by one; null if they can.';


--
-- Name: truncate_remedy(regclass); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.truncate_remedy(relation regclass) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select case
    when problem like '%no USAGE%' or problem like '%no SELECT%' then
      format('grant usage on schema %s to %I; grant select on %s to %2$I;', c.relnamespace::regnamespace,
        collecta.capturing_role(), truncate_remedy.relation)
    when problem like 'row security%' then
      format('create policy collecta_capture_reads on %s for select to %I using (true);',
        truncate_remedy.relation, collecta.capturing_role())
    else coalesce(
      (select collecta.attach_call(m.relation, v.slug, v.status_column, v.custom_data_column, v.scope_column,
         v.exclude_columns, v.ignore_columns, case when v.key_is_named then v.key_columns end, 'ignore')
       from collecta.modules m join collecta.module_versions v on v.version = m.current_version
       where m.relation = truncate_remedy.relation
         or truncate_remedy.relation in (select p.relid from pg_partition_tree(m.relation) p)),
      format('select collecta.attach_module(%L, %L, on_truncate => ''ignore'');', truncate_remedy.relation,
        coalesce(
          nullif(btrim(left(regexp_replace(lower(c.relname::text collate "C"), '[^a-z0-9_]+', '-', 'g'), 63), '-_'),
            ''),
          'module'))) end
  from pg_catalog.pg_class c cross join collecta.truncate_problem(truncate_remedy.relation) problem
  where c.oid = truncate_remedy.relation
$_$;


ALTER FUNCTION collecta.truncate_remedy(relation regclass) OWNER TO collecta_owner;

--
-- Name: FUNCTION truncate_remedy(relation regclass); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.truncate_remedy(relation regclass) IS 'Returns the statement after which the records of a TRUNCATE can be captured.';


--
-- Name: try_filter(text, jsonpath); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  matches := coalesce(jsonb_path_match(body::jsonb, filter), false);
exception when others then
  -- This does not catch query_canceled. A filter that runs too long ends the claim, and the runner then finds its
  -- change.
  matches := false;
  reason := 'filter: ' || sqlerrm;
end
$$;


ALTER FUNCTION collecta.try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text) OWNER TO collecta_owner;

--
-- Name: FUNCTION try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text) IS 'Returns whether a payload matches an endpoints filter, or the reason why the filter cannot be evaluated.';


--
-- Name: try_inbound_match(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.try_inbound_match(inbound_endpoint_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
    detail = sqlerrm || '.', hint = 'match_where => ''deleted_at is null''';
end
$$;


ALTER FUNCTION collecta.try_inbound_match(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION try_inbound_match(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.try_inbound_match(inbound_endpoint_id text) IS 'Prepares the match of an inbound endpoint as its writer, so that a wrong match_where is refused when it is given.';


--
-- Name: type_kind(oid); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.type_kind(type_id oid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  type pg_catalog.pg_type;
  by_superuser boolean;
begin
  -- OIDs below 16384 (FirstNormalObjectId) are built in, and row_to_json looks for no cast of those.
  if type_id < 16384 then
    return 'built in';
  end if;
  select t.* into type from pg_catalog.pg_type t where t.oid = collecta.element_type(type_id);
  if type.oid < 16384 then
    return 'built in';
  end if;
  by_superuser := (select r.rolsuper from pg_catalog.pg_roles r where r.oid = type.typowner);
  -- typrelid is 0 unless the type is composite. row_to_json converts a composite value field by field, without a cast.
  return case when by_superuser
      and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = type.typrelid and a.attnum > 0 and not a.attisdropped
          and collecta.type_kind(a.atttypid) = 'untrusted')
      and (type.typtype = 'c' or not exists (
        select from pg_catalog.pg_cast c
        join pg_catalog.pg_proc p on p.oid = c.castfunc
        join pg_catalog.pg_roles r on r.oid = p.proowner
        where c.castsource = type.oid and c.casttarget = 'json'::regtype and not r.rolsuper))
    then 'trusted' else 'untrusted' end;
end
$$;


ALTER FUNCTION collecta.type_kind(type_id oid) OWNER TO collecta_owner;

--
-- Name: FUNCTION type_kind(type_id oid); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.type_kind(type_id oid) IS 'Returns the kind of a column''s type: built in; trusted, if its owner and that of its cast to json are superusers, as with extensions; or untrusted. Values of untrusted types are captured as their text, without any cast.';


--
-- Name: unique_keys(regclass, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.unique_keys(relation regclass, columns text[], OUT predicate text) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select pg_get_expr(i.indpred, i.indrelid)
  from pg_catalog.pg_index i
  where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indexprs is null
    and (select array_agg(a.attname::text order by a.attname)
         from unnest(i.indkey::int2[]) with ordinality k (attnum, place)
         join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
         where k.place <= i.indnkeyatts) = (select array_agg(c order by c collate "C") from unnest(columns) c)
$$;


ALTER FUNCTION collecta.unique_keys(relation regclass, columns text[], OUT predicate text) OWNER TO collecta_owner;

--
-- Name: FUNCTION unique_keys(relation regclass, columns text[], OUT predicate text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.unique_keys(relation regclass, columns text[], OUT predicate text) IS 'The unique indexes on exactly these columns: the predicate of each, null where it holds for all records.';


--
-- Name: unmask_escapes(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.unmask_escapes(document text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case when strpos(document, E'\x7f') = 0 then document
    else replace(replace(document, E'\x7fu', E'\\u'), E'\x7fd', E'\x7f') end
$$;


ALTER FUNCTION collecta.unmask_escapes(document text) OWNER TO collecta_owner;

--
-- Name: FUNCTION unmask_escapes(document text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.unmask_escapes(document text) IS 'Restores the escapes that mask_escapes replaced.';


--
-- Name: unresolved_columns(collecta.module_versions); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.unresolved_columns(module collecta.module_versions) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array(
    select name from unnest(module.exclude_columns) name
    where not (module.column_numbers ? name and module.database = collecta.database_identity())
      and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = module.relation and a.attname = name and a.attnum > 0 and not a.attisdropped))
$$;


ALTER FUNCTION collecta.unresolved_columns(module collecta.module_versions) OWNER TO collecta_owner;

--
-- Name: FUNCTION unresolved_columns(module collecta.module_versions); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.unresolved_columns(module collecta.module_versions) IS 'Returns the excluded columns that cannot be found, neither by name nor by number. As long as there are any, only key, scope and status are captured.';


--
-- Name: unrestrict_login(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.unrestrict_login(login text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
  delete from collecta.restricted_logins l where l.login = unrestrict_login.login::name
$$;


ALTER FUNCTION collecta.unrestrict_login(login text) OWNER TO collecta_owner;

--
-- Name: FUNCTION unrestrict_login(login text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.unrestrict_login(login text) IS 'Removes the restriction of restrict_login().';


--
-- Name: update_endpoint(text, text, text[], text[], integer, text, text, boolean, text, jsonb, interval, integer, boolean, integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.update_endpoint(endpoint_id text, url text DEFAULT NULL::text, events text[] DEFAULT NULL::text[], modules text[] DEFAULT NULL::text[], retry_max integer DEFAULT NULL::integer, filter text DEFAULT NULL::text, scope text DEFAULT NULL::text, ordered boolean DEFAULT NULL::boolean, payload_role text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb, retry_base interval DEFAULT NULL::interval, max_in_flight integer DEFAULT NULL::integer, all_modules boolean DEFAULT false, max_per_second integer DEFAULT NULL::integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(update_endpoint.endpoint_id);
  perform collecta.check_endpoint(
    coalesce(update_endpoint.url, e.url), coalesce(update_endpoint.events, e.events), update_endpoint.modules, null,
    update_endpoint.filter, update_endpoint.payload_role, coalesce(update_endpoint.headers, e.headers))
  from collecta.endpoints e where e.endpoint_id = update_endpoint.endpoint_id;
  perform collecta.check_endpoint_limits(update_endpoint.retry_max, update_endpoint.retry_base,
    update_endpoint.max_in_flight, nullif(update_endpoint.max_per_second, 0));
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


ALTER FUNCTION collecta.update_endpoint(endpoint_id text, url text, events text[], modules text[], retry_max integer, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, all_modules boolean, max_per_second integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION update_endpoint(endpoint_id text, url text, events text[], modules text[], retry_max integer, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, all_modules boolean, max_per_second integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.update_endpoint(endpoint_id text, url text, events text[], modules text[], retry_max integer, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, all_modules boolean, max_per_second integer) IS 'Changes the options that are given and keeps those that are null. To remove filter, scope or payload_role, pass ''''; to remove max_per_second, pass 0; to subscribe to all modules, pass all_modules => true.';


--
-- Name: update_inbound_endpoint(text, jsonb, text[], text, text, integer, integer, text[], boolean, boolean, integer, interval); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb DEFAULT NULL::jsonb, match_columns text[] DEFAULT NULL::text[], match_where text DEFAULT NULL::text, each text DEFAULT NULL::text, rate_limit_per_minute integer DEFAULT NULL::integer, max_body_bytes integer DEFAULT NULL::integer, events text[] DEFAULT NULL::text[], keep_ignored boolean DEFAULT NULL::boolean, each_alone boolean DEFAULT NULL::boolean, max_elements integer DEFAULT NULL::integer, digest_window interval DEFAULT NULL::interval) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
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
    coalesce(match_where, case when endpoint.match_columns <> '{}' then endpoint.match_where end)) c;
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


ALTER FUNCTION collecta.update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb, match_columns text[], match_where text, each text, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval) OWNER TO collecta_owner;

--
-- Name: FUNCTION update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb, match_columns text[], match_where text, each text, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb, match_columns text[], match_where text, each text, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval) IS 'Changes what is given and leaves what is null. With the id alone it takes up a change of the table: renamed columns, types, a new unique index.';


--
-- Name: use_slots(timestamp with time zone, text[]); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.use_slots(present timestamp with time zone, endpoint_ids text[]) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with used as (
    update collecta.endpoint_flow f
    set next_slot = greatest(f.next_slot, present - interval '50 ms')
      + u.deliveries * interval '1.25 s' / least(f.max_per_second, f.learned_per_second)
    from (select id, count(*) as deliveries from unnest(endpoint_ids) id group by id) u
    where f.endpoint_id = u.id and (f.max_per_second is not null or f.learned_per_second is not null)
    returning f.next_slot
  )
  select min(u.next_slot) from used u
$$;


ALTER FUNCTION collecta.use_slots(present timestamp with time zone, endpoint_ids text[]) OWNER TO collecta_owner;

--
-- Name: FUNCTION use_slots(present timestamp with time zone, endpoint_ids text[]); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.use_slots(present timestamp with time zone, endpoint_ids text[]) IS 'Takes a slot for each delivery of a rate-limited endpoint. Returns when the first of these endpoints may begin again.';


--
-- Name: visible_scopes(name); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.visible_scopes(asker name DEFAULT CURRENT_USER) RETURNS text[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (select from collecta.restricted_logins) then
    return null;
  end if;
  return (
    with asking as (
      select r.oid
      from pg_catalog.pg_roles r
      where r.rolname in (asker, session_user, collecta.acting_role()) and not r.rolsuper
        and not pg_has_role(r.oid, current_user, 'usage') -- the owner of collecta, as whom this function runs
    ), applying as (
      select l.login, l.scopes from collecta.restricted_logins l
      where exists (
        select from pg_catalog.pg_roles named join asking on pg_has_role(asking.oid, named.oid, 'usage')
        where named.rolname = l.login or named.oid = l.login_oid and l.database = collecta.database_identity())
    )
    select case when exists (select from applying) then array(
      select s.scope from applying cross join lateral (select distinct unnest(applying.scopes) as scope) s
      group by s.scope having count(*) = (select count(*) from applying)) end);
end
$$;


ALTER FUNCTION collecta.visible_scopes(asker name) OWNER TO collecta_owner;

--
-- Name: FUNCTION visible_scopes(asker name); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.visible_scopes(asker name) IS 'Returns the scopes to which restrict_login() has restricted you; null if you are not restricted.';


--
-- Name: wake_runner(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.wake_runner() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
begin
  if not pg_try_advisory_xact_lock_shared(1668246636, 1) and collecta.notifies() then
    perform pg_notify('collecta_wake', '');
  end if;
end
$$;


ALTER FUNCTION collecta.wake_runner() OWNER TO collecta_owner;

--
-- Name: FUNCTION wake_runner(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.wake_runner() IS 'Wakes a sleeping runner when the transaction commits.';


--
-- Name: walled_views(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.walled_views() RETURNS text[]
    LANGUAGE sql IMMUTABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array['webhook_deliveries', 'undelivered']
$$;


ALTER FUNCTION collecta.walled_views() OWNER TO collecta_owner;

--
-- Name: FUNCTION walled_views(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.walled_views() IS 'Views whose readers see what policies let them see.';


--
-- Name: why_not_restricted(name); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.why_not_restricted(login name) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case
    when r.rolsuper then 'is a superuser'
    when r.rolbypassrls then 'has BYPASSRLS'
    when pg_has_role(r.oid, s.nspowner, 'usage')
      then format('has the rights of %s, who owns collecta', s.nspowner::regrole)
    when power.rolname is not null then format('has the rights of %s', power.rolname) end
  from pg_catalog.pg_roles r
  join pg_catalog.pg_namespace s on s.nspname = 'collecta'
  left join pg_catalog.pg_roles power on pg_has_role(r.oid, power.oid, 'member') and power.rolname in (
    collecta.role_name('collecta_dispatcher'), collecta.role_name('collecta_inbound'),
    collecta.role_name('collecta_viewer'), collecta.role_name('collecta_capture'))
  where r.rolname = login
  order by power.rolname limit 1
$$;


ALTER FUNCTION collecta.why_not_restricted(login name) OWNER TO collecta_owner;

--
-- Name: FUNCTION why_not_restricted(login name); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.why_not_restricted(login name) IS 'Returns why a restriction would not apply to this role; null if it would.';


--
-- Name: write_capture_functions(integer); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.write_capture_functions(module_id integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET check_function_bodies TO 'off'
    SET array_nulls TO 'on'
    SET bytea_output TO 'hex'
    SET "DateStyle" TO 'ISO, MDY'
    SET extra_float_digits TO '1'
    SET "IntervalStyle" TO 'postgres'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    SET transform_null_equals TO 'off'
    SET xmlbinary TO 'base64'
    AS $$
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
  update collecta.modules m
  set written_for = collecta.capture_inputs(m.module_id), written_hash = (
    select jsonb_object_agg(task, collecta.function_hash(p.oid))
    from unnest(array['insert', 'update', 'delete', 'truncate', 'row']) task
    join pg_catalog.pg_proc p on p.oid = to_regprocedure(
      case task when 'row' then format('collecta_rows.row_%s(record, record)', m.module_id)
        else format('collecta_modules.capture_%s_%s()', m.module_id, task) end))
  where m.module_id = write_capture_functions.module_id
    and (written or m.written_for is distinct from collecta.capture_inputs(m.module_id));
  perform collecta.leave_citus(before);
end
$$;


ALTER FUNCTION collecta.write_capture_functions(module_id integer) OWNER TO collecta_owner;

--
-- Name: FUNCTION write_capture_functions(module_id integer); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.write_capture_functions(module_id integer) IS 'Generates a module''s capture functions again. Everything that changes what they depend on calls it.';


--
-- Name: write_inbound(text, integer, integer, boolean, boolean, boolean, text, json, boolean); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
          if not alone or sqlstate ~ '^(40|53|55P03|57|58|XX|CW059|42883)' collate "C" then
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
    -- written: a name is gone (42P01, 42703, 3F000), or the shape is another. Then the functions are written again, and
    -- the request is tried once more. If another request has written them, this transaction may go on to see the old
    -- ones, so the caller tries again in a new one.
    exit when code not in ('CW059', '42883', '42P01', '42703', '3F000');
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
$_$;


ALTER FUNCTION collecta.write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text) IS 'Maps a payload, and writes its one record, or those of a batch in their order: all or none, or with alone each that can be. done: the results of an earlier try, whose records are not written again.';


--
-- Name: write_inbound_1(json[], integer); Type: FUNCTION; Schema: collecta; Owner: collecta_writer
--

CREATE FUNCTION collecta.write_inbound_1(elements json[], mapping_version integer, OUT record_ids text[], OUT operations text[]) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'auto'
    SET enable_seqscan TO 'on'
    AS $_$
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
  if current_user operator(pg_catalog.<>) 'collecta_writer'::pg_catalog.name then
    raise exception using errcode = 'CW059', message = 'this function was altered';
  end if;
  if mapping_version operator(pg_catalog.<>) 1 then
    raise exception using errcode = '40001', message = 'the mapping was changed meanwhile';
  end if;
  foreach input in array elements loop
    kinds := array[pg_catalog.json_typeof(input operator(pg_catalog.->) 'id'), pg_catalog.json_typeof(input operator(pg_catalog.->) 'status')];
    if kinds operator(pg_catalog.&&) '{object,array}'::pg_catalog.text[] then
      wrong := case when kinds[1] operator(pg_catalog.=) any ('{object,array}'::pg_catalog.text[]) then 'id'
        when kinds[2] operator(pg_catalog.=) any ('{object,array}'::pg_catalog.text[]) then 'status' end;
      if wrong is not null then
        raise exception using errcode = '22P02', column = wrong, message = 'the value is of another kind';
      end if;
    end if;
    complete := pg_catalog.num_nulls(variadic kinds) operator(pg_catalog.=) 0;
    select * into v from pg_catalog.json_to_record(input) v (id integer, status text);
    
    
  if (input operator(pg_catalog.->>) 'id') is null then
    raise exception using errcode = 'CW060', column = 'id', message = 'records are matched by this column, so it must be there and not null';
  end if;
    
    if not complete then
      select pg_catalog.array_agg(pg_catalog.quote_ident(c)), pg_catalog.array_agg(pg_catalog.format('%I %s', c, type)),
        pg_catalog.array_agg(pg_catalog.format('%I = v.%1$I', c))
          filter (where c operator(pg_catalog.<>) all ('{id}'::pg_catalog.text[]))
      into given_list, given_definitions, given_assignments
      from rows from (pg_catalog.unnest('{id,status}'::pg_catalog.text[]), pg_catalog.unnest('{integer,text}'::pg_catalog.text[]))
        u (c, type)
      where (input operator(pg_catalog.->) c) is not null;
    end if;
    for attempt in 1 .. 2 loop
      -- The record is locked first. So if the UPDATE changes no row, a trigger or rule has suppressed it.
      select pg_catalog.array_agg(m.key) as keys, pg_catalog.array_agg(m.leaf) as leaf,
        pg_catalog.array_agg(m.place) as place
      into matching
      from (
        select pg_catalog.to_json(t.id) operator(pg_catalog.#>>) '{}' as key, t.tableoid as leaf, t.ctid as place from public.work_orders t where t.id operator(pg_catalog.=) v.id and (true
        ) and collecta.is_inbound_shape('inb_01a222aee97a72b18da813c4cb443f19'::pg_catalog.text, 1, 'public.work_orders:1:t:1:id 23 -1,status 25 -1'::pg_catalog.text) limit 2 for no key update of t) m;
      if pg_catalog.cardinality(matching.keys) operator(pg_catalog.>) 1 then
        raise too_many_rows;
      elsif matching.keys is not null then
        if complete then
          update public.work_orders t set status = v.status
          where t.tableoid operator(pg_catalog.=) matching.leaf[1] and t.ctid operator(pg_catalog.=) matching.place[1];
          get diagnostics changed = row_count;
        else
          execute pg_catalog.format('update public.work_orders t set %s from pg_catalog.json_to_record($1) v (%s) where t.tableoid operator(pg_catalog.=) $2 and t.ctid operator(pg_catalog.=) $3',
            coalesce(pg_catalog.array_to_string(given_assignments, ', '), 'id = t.id'),
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
          insert into public.work_orders as t (id, status) select v.id, v.status returning pg_catalog.to_json(t.id) operator(pg_catalog.#>>) '{}' into record_id;
        else
          -- A column that the payload lacks is not named, so that it takes its default.
          execute pg_catalog.format('insert into public.work_orders as t (%1$s) select %1$s from pg_catalog.json_to_record($1) v (%2$s) where collecta.is_inbound_shape(''inb_01a222aee97a72b18da813c4cb443f19''::pg_catalog.text, 1, ''public.work_orders:1:t:1:id 23 -1,status 25 -1''::pg_catalog.text) returning pg_catalog.to_json(t.id) operator(pg_catalog.#>>) ''{}''', pg_catalog.array_to_string(given_list, ', '),
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
$_$;


ALTER FUNCTION collecta.write_inbound_1(elements json[], mapping_version integer, OUT record_ids text[], OUT operations text[]) OWNER TO collecta_writer;

--
-- Name: write_inbound_functions(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.write_inbound_functions(inbound_endpoint_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
  into strict endpoint
  from collecta.inbound_endpoints e
  join collecta.modules m on m.slug = e.module and m.relation = e.relation
  join collecta.module_versions v on v.version = m.current_version
  where e.inbound_endpoint_id = write_inbound_functions.inbound_endpoint_id;

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
  set written_for = endpoint.shape, functions_are_current = true, written_hash = md5(hash),
    grouped = collecta.can_group_inbound(endpoint.relation) and parts ->> 'serialise' is null,
    scalar_columns = array(select jsonb_array_elements_text(parts -> 'scalars'))
  where e.inbound_endpoint_id = write_inbound_functions.inbound_endpoint_id;
  perform collecta.leave_citus(before);
end
$$;


ALTER FUNCTION collecta.write_inbound_functions(inbound_endpoint_id text) OWNER TO collecta_owner;

--
-- Name: FUNCTION write_inbound_functions(inbound_endpoint_id text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.write_inbound_functions(inbound_endpoint_id text) IS 'Writes an inbound endpoint''s map_inbound_<n>, write_inbound_<n>, cast_inbound_<n> and accept_inbound_<n> anew: done when its mapping or what they depend on changed, and when somebody altered or dropped them.';


--
-- Name: writer_timed_out(); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.writer_timed_out() RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select current_setting('statement_timeout') <> '0'
    and clock_timestamp() - statement_timestamp() + interval '50 ms' >= current_setting('statement_timeout')::interval
$$;


ALTER FUNCTION collecta.writer_timed_out() OWNER TO collecta_owner;

--
-- Name: FUNCTION writer_timed_out(); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.writer_timed_out() IS 'Whether the writer''s statement_timeout ended the capture, and not somebody who cancelled the statement. A timeout must not fail a statement whose rows are written already.';


--
-- Name: written_owner(text); Type: FUNCTION; Schema: collecta; Owner: collecta_owner
--

CREATE FUNCTION collecta.written_owner(owner_name text) RETURNS name
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case when to_regrole(quote_ident(role.name)) is not null and pg_has_role(current_user, role.name, 'usage')
    then role.name else current_user end
  from (select collecta.role_name(owner_name)::name as name) role
$$;


ALTER FUNCTION collecta.written_owner(owner_name text) OWNER TO collecta_owner;

--
-- Name: FUNCTION written_owner(owner_name text); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON FUNCTION collecta.written_owner(owner_name text) IS 'Returns the role that should own a generated function: the role for that purpose, or the current role if that one does not exist or cannot be used.';


--
-- Name: capture_1_delete(); Type: FUNCTION; Schema: collecta_modules; Owner: collecta_capture
--

CREATE FUNCTION collecta_modules.capture_1_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
-- Captures DELETE on module work-orders. Written by collecta.write_capture_functions(1); do not edit.
#variable_conflict use_variable
begin
  -- This block writes nothing for most statements. It catches what fails if rights of
  -- ours were revoked, even the right to look up a name, because the writer must not fail. The tables are computed when
  -- the condition is planned.
  <<usual>>
  begin
    if current_setting('collecta.muted', true) is distinct from 'on' and tg_relid = any (case
      when true then collecta.relations_to_capture('collecta_capture', '{collecta.mask_escapes,collecta.omitted_columns,collecta.pick_columns,collecta.relations_to_capture,collecta.unmask_escapes,collecta_rows.row_1}', 17361, 'f', '7713238207261058246/5', 'rows without', '{23,25,3802,25,25,25}', '{}')
      when 'collecta.outbox'::regclass = 0 or '17361'::regclass = 0
      or collecta.mask_escapes(null::json) is null
      or collecta.omitted_columns(null::oid, null::text[], null::smallint[]) is null
      or collecta.pick_columns(null::json, null::text[], null::boolean) is null
      or collecta.relations_to_capture(null::name, null::text[], null::oid, null::boolean, null::text, null::text, null::text, null::text[]) is null
      or collecta.unmask_escapes(null::text) is null
      or collecta_rows.row_1(null::record, null::record) is null then null end) then
      -- A statement_timeout that ends the writer's statement in here is caught below, if there are many rows.
      exit usual when current_setting('statement_timeout') = '0';
      exit usual when clock_timestamp() - statement_timestamp() <= interval '100 ms';
      exit usual when not exists (select from old_rows offset 1000);
    elsif not exists (select from old_rows) then
      return null;
    elsif current_setting('collecta.muted', true) = 'on' then
      insert into collecta.outbox (version, operation, new)
      select 1, 'M', json_build_object('operation', 'delete', 'records', count(*)) from old_rows;
      return null;
    end if;
    -- A statement made for the table as it is now. If that fails, one for key and status only.
    -- New columns may depend on other settings than those that this function pins, so all of them are pinned.
    declare
      settings jsonb;
    begin
      settings := collecta.pin_output_settings();
      execute collecta.capture_statement(1, 1, tg_relid, 'DELETE', false)
      using clock_timestamp();
      perform collecta.pin_output_settings(settings);
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
      begin
        settings := collecta.pin_output_settings();
        execute collecta.capture_statement(1, 1, tg_relid, 'DELETE', true)
        using clock_timestamp();
        perform collecta.pin_output_settings(settings);
      exception when syntax_error_or_access_rule_violation or data_exception then
        raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
      end;
    end;
    if not pg_try_advisory_xact_lock_shared(1668246636, 1) and coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
    return null;
  exception when syntax_error_or_access_rule_violation then
    raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
    return null;
  end;
  -- coalesce(x.*) is the row even if a column is named like the alias. OFFSET makes it be computed once.
  insert into collecta.outbox (version, operation, old)
  select 1, 'D', collecta.pick_columns(case when pg_column_size(o.r) > 4096 then collecta_rows.row_1(o.r, null) else row_to_json(o.r) end, collecta.omitted_columns(17361, '{secret}', '{6}'), false)
  from (
    select coalesce("collecta old".*) as r
    from old_rows "collecta old" offset 0) o;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$$;


ALTER FUNCTION collecta_modules.capture_1_delete() OWNER TO collecta_capture;

--
-- Name: capture_1_insert(); Type: FUNCTION; Schema: collecta_modules; Owner: collecta_capture
--

CREATE FUNCTION collecta_modules.capture_1_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
-- Captures INSERT on module work-orders. Written by collecta.write_capture_functions(1); do not edit.
#variable_conflict use_variable
begin
  -- This block writes nothing for most statements. It catches what fails if rights of
  -- ours were revoked, even the right to look up a name, because the writer must not fail. The tables are computed when
  -- the condition is planned.
  <<usual>>
  begin
    if current_setting('collecta.muted', true) is distinct from 'on' and tg_relid = any (case
      when true then collecta.relations_to_capture('collecta_capture', '{collecta.mask_escapes,collecta.omitted_columns,collecta.pick_columns,collecta.relations_to_capture,collecta.unmask_escapes,collecta_rows.row_1}', 17361, 'f', '7713238207261058246/5', 'rows without', '{23,25,3802,25,25,25}', '{}')
      when 'collecta.outbox'::regclass = 0 or '17361'::regclass = 0
      or collecta.mask_escapes(null::json) is null
      or collecta.omitted_columns(null::oid, null::text[], null::smallint[]) is null
      or collecta.pick_columns(null::json, null::text[], null::boolean) is null
      or collecta.relations_to_capture(null::name, null::text[], null::oid, null::boolean, null::text, null::text, null::text, null::text[]) is null
      or collecta.unmask_escapes(null::text) is null
      or collecta_rows.row_1(null::record, null::record) is null then null end) then
      -- A statement_timeout that ends the writer's statement in here is caught below, if there are many rows.
      exit usual when current_setting('statement_timeout') = '0';
      exit usual when clock_timestamp() - statement_timestamp() <= interval '100 ms';
      exit usual when not exists (select from new_rows offset 1000);
    elsif not exists (select from new_rows) then
      return null;
    elsif current_setting('collecta.muted', true) = 'on' then
      insert into collecta.outbox (version, operation, new)
      select 1, 'M', json_build_object('operation', 'insert', 'records', count(*)) from new_rows;
      return null;
    end if;
    -- A statement made for the table as it is now. If that fails, one for key and status only.
    -- New columns may depend on other settings than those that this function pins, so all of them are pinned.
    declare
      settings jsonb;
    begin
      settings := collecta.pin_output_settings();
      execute collecta.capture_statement(1, 1, tg_relid, 'INSERT', false)
      using clock_timestamp();
      perform collecta.pin_output_settings(settings);
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
      begin
        settings := collecta.pin_output_settings();
        execute collecta.capture_statement(1, 1, tg_relid, 'INSERT', true)
        using clock_timestamp();
        perform collecta.pin_output_settings(settings);
      exception when syntax_error_or_access_rule_violation or data_exception then
        raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
      end;
    end;
    if not pg_try_advisory_xact_lock_shared(1668246636, 1) and coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
    return null;
  exception when syntax_error_or_access_rule_violation then
    raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
    return null;
  end;
  -- coalesce(x.*) is the row even if a column is named like the alias. OFFSET makes it be computed once.
  insert into collecta.outbox (version, operation, new)
  select 1, 'I', collecta.pick_columns(case when pg_column_size(n.r) > 4096 then collecta_rows.row_1(n.r, null) else row_to_json(n.r) end, collecta.omitted_columns(17361, '{secret}', '{6}'), false)
  from (
    select coalesce("collecta new".*) as r
    from new_rows "collecta new" offset 0) n;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$$;


ALTER FUNCTION collecta_modules.capture_1_insert() OWNER TO collecta_capture;

--
-- Name: capture_1_truncate(); Type: FUNCTION; Schema: collecta_modules; Owner: collecta_capture
--

CREATE FUNCTION collecta_modules.capture_1_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'on'
    SET constraint_exclusion TO 'off'
    AS $$
-- Captures TRUNCATE on module work-orders. Written by collecta.write_capture_functions(1); do not edit.
begin
  if current_setting('collecta.muted', true) = 'on' then
    insert into collecta.outbox (version, operation, new)
    values (1, 'M', json_build_object('operation', 'truncate', 'records', 1));
    return null;
  end if;
  -- A statement made for the table as it is now. If that fails, one for key and status only.
    -- New columns may depend on other settings than those that this function pins, so all of them are pinned.
    declare
      settings jsonb;
    begin
      settings := collecta.pin_output_settings();
      execute collecta.capture_statement(1, 1, tg_relid, 'TRUNCATE', false)
      using clock_timestamp();
      perform collecta.pin_output_settings(settings);
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
      begin
        settings := collecta.pin_output_settings();
        execute collecta.capture_statement(1, 1, tg_relid, 'TRUNCATE', true)
        using clock_timestamp();
        perform collecta.pin_output_settings(settings);
      exception when syntax_error_or_access_rule_violation or data_exception then
        raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
      end;
    end;
    if not pg_try_advisory_xact_lock_shared(1668246636, 1) and coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
    return null;
-- The writer must not fail if rights of ours were revoked.
exception when syntax_error_or_access_rule_violation then
  raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
  return null;
end
$$;


ALTER FUNCTION collecta_modules.capture_1_truncate() OWNER TO collecta_capture;

--
-- Name: capture_1_update(); Type: FUNCTION; Schema: collecta_modules; Owner: collecta_capture
--

CREATE FUNCTION collecta_modules.capture_1_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
-- Captures UPDATE on module work-orders. Written by collecta.write_capture_functions(1); do not edit.
#variable_conflict use_variable
declare
  captured_at timestamptz;
begin
  -- This block writes nothing for most statements. It catches what fails if rights of
  -- ours were revoked, even the right to look up a name, because the writer must not fail. The tables are computed when
  -- the condition is planned.
  <<usual>>
  begin
    if current_setting('collecta.muted', true) is distinct from 'on' and tg_relid = any (case
      when true then collecta.relations_to_capture('collecta_capture', '{collecta.mask_escapes,collecta.omitted_columns,collecta.pick_columns,collecta.relations_to_capture,collecta.unmask_escapes,collecta_rows.row_1}', 17361, 'f', '7713238207261058246/5', 'rows without', '{23,25,3802,25,25,25}', '{}')
      when 'collecta.outbox'::regclass = 0 or '17361'::regclass = 0
      or collecta.mask_escapes(null::json) is null
      or collecta.omitted_columns(null::oid, null::text[], null::smallint[]) is null
      or collecta.pick_columns(null::json, null::text[], null::boolean) is null
      or collecta.relations_to_capture(null::name, null::text[], null::oid, null::boolean, null::text, null::text, null::text, null::text[]) is null
      or collecta.unmask_escapes(null::text) is null
      or collecta_rows.row_1(null::record, null::record) is null then null end) then
      -- A statement_timeout that ends the writer's statement in here is caught below, if there are many rows.
      exit usual when current_setting('statement_timeout') = '0';
      exit usual when clock_timestamp() - statement_timestamp() <= interval '100 ms';
      exit usual when not exists (select from new_rows offset 1000);
    elsif not exists (select from new_rows) then
      return null;
    elsif current_setting('collecta.muted', true) = 'on' then
      insert into collecta.outbox (version, operation, new)
      select 1, 'M', json_build_object('operation', 'update', 'records', count(*)) from new_rows;
      return null;
    end if;
    -- A statement made for the table as it is now. If that fails, one for key and status only.
    -- New columns may depend on other settings than those that this function pins, so all of them are pinned.
    declare
      settings jsonb;
    begin
      settings := collecta.pin_output_settings();
      execute collecta.capture_statement(1, 1, tg_relid, 'UPDATE', false)
      using clock_timestamp();
      perform collecta.pin_output_settings(settings);
    exception when others or query_canceled then
      if sqlstate = '57014' and not collecta.writer_timed_out() then
        raise;
      end if;
      begin
        settings := collecta.pin_output_settings();
        execute collecta.capture_statement(1, 1, tg_relid, 'UPDATE', true)
        using clock_timestamp();
        perform collecta.pin_output_settings(settings);
      exception when syntax_error_or_access_rule_violation or data_exception then
        raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
      end;
    end;
    if not pg_try_advisory_xact_lock_shared(1668246636, 1) and coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
    return null;
  exception when syntax_error_or_access_rule_violation then
    raise warning 'collecta: a change of % was not captured: %', tg_relid::regclass, sqlerrm;
    return null;
  end;
  -- Most updates change one small row. This statement pairs without a join condition and is always planned for two
  -- rows, so a plan that was cached for many rows does not slow it down: it costs a third less than the general one
  -- below. coalesce(x.*) is the row even if a column is named like the alias.
  insert into collecta.outbox (version, operation, old, new)
  select 1, 'U', collecta.pick_columns(row_to_json(o.r), collecta.omitted_columns(17361, '{secret}', '{6}'), false), collecta.pick_columns(row_to_json(n.r), collecta.omitted_columns(17361, '{secret}', '{6}'), false)
  from (
    select coalesce("collecta old".*) as r
    from old_rows "collecta old" limit 2) o, (
    select coalesce("collecta new".*) as r
    from new_rows "collecta new" limit 2) n
  where not exists (select from old_rows offset 1)
    and pg_column_size(o.r) <= 4096 and pg_column_size(n.r) <= 4096
    and (o.r *<> n.r) is not false;
  if not found then
    -- One small row that did not change is the most frequent reason to be here. The statement below costs twice this.
    if exists (
      select from (select coalesce("collecta old".*) as r from old_rows "collecta old" limit 2) o,
        (select coalesce("collecta new".*) as r from new_rows "collecta new" limit 2) n
      where not exists (select from old_rows offset 1)
        and pg_column_size(o.r) <= 4096 and pg_column_size(n.r) <= 4096)
    then
      return null;
    end if;
    -- Rows are paired by position and not by key, because a foreign-key action puts one record into both tables twice.
    -- A strict WHERE condition would turn FULL JOIN into an inner join, whose plan may be cached as a nested loop and
    -- is then slow for many rows. All rows have one captured_at, which routing needs where keys change.
    captured_at := clock_timestamp();
    insert into collecta.outbox (version, operation, old, new, captured_at)
    select 1, 'U', collecta.pick_columns(case when pg_column_size(o.r) > 4096 then collecta_rows.row_1(o.r, n.r) else row_to_json(o.r) end, collecta.omitted_columns(17361, '{secret}', '{6}'), false), collecta.pick_columns(case when pg_column_size(n.r) > 4096 then collecta_rows.row_1(n.r, o.r) else row_to_json(n.r) end, collecta.omitted_columns(17361, '{secret}', '{6}'), false), captured_at
    from (
      select coalesce("collecta old".*) as r, row_number() over () as position
      from old_rows "collecta old") o
    full join (
      select coalesce("collecta new".*) as r, row_number() over () as position
      from new_rows "collecta new") n
      on n.position = o.position
    where (o.r *<> n.r) is not false
    order by o.position;
  end if;
  -- A sleeping runner holds this lock and wants to be notified.
  if found and not pg_try_advisory_xact_lock_shared(1668246636, 1) then
    if coalesce(current_setting('collecta.notify', true), '') <> 'off' then
      perform pg_notify('collecta_wake', '');
    end if;
  end if;
  return null;
end
$$;


ALTER FUNCTION collecta_modules.capture_1_update() OWNER TO collecta_capture;

--
-- Name: row_1(record, record); Type: FUNCTION; Schema: collecta_rows; Owner: collecta_owner
--

CREATE FUNCTION collecta_rows.row_1(captured record, other record) RETURNS json
    LANGUAGE plpgsql STABLE
    AS $_$
-- Captures one row of module work-orders for which row_to_json alone is not safe: it has more than 4 kB as stored
-- (compressed, so it may be up to 255 times as large), or types that are not built in. Written by
-- collecta.write_capture_functions(1) for the columns 3e47e69d34231c257db966f103cd5333; do not edit. An error, such as a column name
-- that does not fit any more after a rename, is caught, because nothing here may fail the writer's statement.
declare
  size_limit bigint;
  size bigint := pg_column_size(captured);
  document json;
  custom_data_changed boolean := false;
begin
  begin
    if size > 4096 then
      size_limit := (select s.max_record_bytes from collecta.settings s);
      begin
        size := coalesce(octet_length(captured.status), 0)::bigint + coalesce(pg_column_size(captured.custom_data), 0)::bigint + coalesce(octet_length(captured.tenant), 0)::bigint + coalesce(octet_length(captured.note), 0)::bigint;
      exception when others then
        null;
      end;
    end if;
    if size <= size_limit or size_limit is null then
      begin
        document := row_to_json(captured);
        if size_limit is null or octet_length(document::text) <= 2 * size_limit then
          return document;
        end if;
      exception when others or query_canceled then
        -- The document is too large, a value cannot be written as JSON, or the writer's time is over.
        if sqlstate = '57014' and not collecta.writer_timed_out() then
          raise;
        end if;
      end;
      
    end if;
    begin
      -- Only an update has another row.
      if num_nulls(other) = 0 then
        custom_data_changed := row(captured.custom_data)::record *<> row(other.custom_data)::record;
      end if;
    exception when others then
      null;
    end;
    select row_to_json(coalesce("collecta thin".*)) into document
    from (select captured.id as id, captured.status as status, captured.tenant as tenant, true as "$truncated", custom_data_changed as "$custom_data_changed") "collecta thin";
    return document;
  exception when others then
    begin
      return coalesce((left(collecta.pick_columns(row_to_json(captured), '{id,status,tenant}', true)::text, -1) || ',"$truncated":true}')::json, '{"$truncated":true}'::json);
    exception when others then
      return '{"$truncated":true}'::json;
    end;
  end;
end
$_$;


ALTER FUNCTION collecta_rows.row_1(captured record, other record) OWNER TO collecta_owner;

--
-- Name: sum_counts(jsonb); Type: AGGREGATE; Schema: collecta; Owner: collecta_owner
--

CREATE AGGREGATE collecta.sum_counts(jsonb) (
    SFUNC = collecta.add_counts,
    STYPE = jsonb,
    INITCOND = '{}'
);


ALTER AGGREGATE collecta.sum_counts(jsonb) OWNER TO collecta_owner;

--
-- Name: AGGREGATE sum_counts(jsonb); Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON AGGREGATE collecta.sum_counts(jsonb) IS 'Histograms of collecta.delivery_rollup as one.';


--
-- Name: alerts; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.alerts (
    kind text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    state text DEFAULT 'well'::text NOT NULL COLLATE pg_catalog."C",
    sent_state text DEFAULT 'well'::text NOT NULL COLLATE pg_catalog."C",
    pending bigint DEFAULT 0 NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    sent jsonb DEFAULT '{}'::jsonb NOT NULL
);


ALTER TABLE collecta.alerts OWNER TO collecta_owner;

--
-- Name: TABLE alerts; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.alerts IS 'The state of everything that observe() sends alerts about. Endpoints that subscribe to endpoint.failing, queue.stale and so on get an event when a state changes, and at most one of the same kind about the same subject within settings.alert_interval.';


--
-- Name: COLUMN alerts.subject; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.alerts.subject IS 'The id of an endpoint or inbound endpoint, or a module. Empty: the outbox.';


--
-- Name: COLUMN alerts.sent_state; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.alerts.sent_state IS 'The state that the last alert reported.';


--
-- Name: COLUMN alerts.pending; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.alerts.pending IS 'How many deliveries were given up, changes set aside or requests failed since the last alert.';


--
-- Name: COLUMN alerts.sent; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.alerts.sent IS 'When an alert of each event was last sent.';


--
-- Name: delivery_attempts; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_attempts (
    id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    attempt integer NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    request_headers json,
    response_status integer,
    response_headers json,
    response_body text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    lookup_ms real,
    connect_ms real,
    first_byte_ms real,
    total_ms real,
    next_attempt_at timestamp with time zone,
    replay_of text COLLATE pg_catalog."C",
    CONSTRAINT delivery_attempts_outcome_is_known CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'exhausted'::text, 'blocked'::text, 'lost'::text])))
)
PARTITION BY RANGE (routed_at);


ALTER TABLE collecta.delivery_attempts OWNER TO collecta_owner;

--
-- Name: TABLE delivery_attempts; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.delivery_attempts IS 'One row for each POST. Read collecta.webhook_deliveries, which shows it with its event.';


--
-- Name: delivery_attempts_20261128; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_attempts_20261128 (
    id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    attempt integer NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    request_headers json,
    response_status integer,
    response_headers json,
    response_body text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    lookup_ms real,
    connect_ms real,
    first_byte_ms real,
    total_ms real,
    next_attempt_at timestamp with time zone,
    replay_of text COLLATE pg_catalog."C",
    CONSTRAINT delivery_attempts_outcome_is_known CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'exhausted'::text, 'blocked'::text, 'lost'::text])))
);


ALTER TABLE collecta.delivery_attempts_20261128 OWNER TO collecta_owner;

--
-- Name: delivery_attempts_20261129; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_attempts_20261129 (
    id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    attempt integer NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    request_headers json,
    response_status integer,
    response_headers json,
    response_body text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    lookup_ms real,
    connect_ms real,
    first_byte_ms real,
    total_ms real,
    next_attempt_at timestamp with time zone,
    replay_of text COLLATE pg_catalog."C",
    CONSTRAINT delivery_attempts_outcome_is_known CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'exhausted'::text, 'blocked'::text, 'lost'::text])))
);


ALTER TABLE collecta.delivery_attempts_20261129 OWNER TO collecta_owner;

--
-- Name: delivery_attempts_20261130; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_attempts_20261130 (
    id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    attempt integer NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    request_headers json,
    response_status integer,
    response_headers json,
    response_body text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    lookup_ms real,
    connect_ms real,
    first_byte_ms real,
    total_ms real,
    next_attempt_at timestamp with time zone,
    replay_of text COLLATE pg_catalog."C",
    CONSTRAINT delivery_attempts_outcome_is_known CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'exhausted'::text, 'blocked'::text, 'lost'::text])))
);


ALTER TABLE collecta.delivery_attempts_20261130 OWNER TO collecta_owner;

--
-- Name: delivery_attempts_20261201; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_attempts_20261201 (
    id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    attempt integer NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    request_headers json,
    response_status integer,
    response_headers json,
    response_body text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    lookup_ms real,
    connect_ms real,
    first_byte_ms real,
    total_ms real,
    next_attempt_at timestamp with time zone,
    replay_of text COLLATE pg_catalog."C",
    CONSTRAINT delivery_attempts_outcome_is_known CHECK ((outcome = ANY (ARRAY['delivered'::text, 'failed'::text, 'exhausted'::text, 'blocked'::text, 'lost'::text])))
);


ALTER TABLE collecta.delivery_attempts_20261201 OWNER TO collecta_owner;

--
-- Name: delivery_queue; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_queue (
    delivery_id bigint NOT NULL,
    change_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    leased_until timestamp with time zone,
    routed_at timestamp with time zone NOT NULL,
    record_key bigint,
    held_since timestamp with time zone,
    "position" integer NOT NULL,
    bytes integer DEFAULT 0 NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    losses integer DEFAULT 0 NOT NULL,
    runner integer,
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    replay_of text COLLATE pg_catalog."C"
)
WITH (fillfactor='45', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', autovacuum_vacuum_insert_threshold='-1', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='20000');


ALTER TABLE collecta.delivery_queue OWNER TO collecta_owner;

--
-- Name: TABLE delivery_queue; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.delivery_queue IS 'Events that still have to be delivered, one row for each endpoint. Rows are narrow and short-lived. The lease is in no index and pages are left more than half empty, so that a claim is a HOT update.';


--
-- Name: COLUMN delivery_queue.change_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.change_id IS 'The sequence of the event. With position, the order of the rows of a record.';


--
-- Name: COLUMN delivery_queue.due_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.due_at IS 'When it may be sent. infinity: at an ordered endpoint it waits for an earlier change of its record.';


--
-- Name: COLUMN delivery_queue.leased_until; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.leased_until IS 'Until then it belongs to a runner; after that it may be claimed again. It identifies the claim: the result of another claim changes nothing.';


--
-- Name: COLUMN delivery_queue.record_key; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.record_key IS 'A hash of module and record, only for ordered endpoints: rows with the same hash are sent one after the other.';


--
-- Name: COLUMN delivery_queue.held_since; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.held_since IS 'When the receiver first answered with Retry-After to it. For a day such an answer does not count as an attempt.';


--
-- Name: COLUMN delivery_queue.bytes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.bytes IS 'Size of the body.';


--
-- Name: COLUMN delivery_queue.attempt; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.attempt IS 'How many attempts were made. A lease that lapsed does not count.';


--
-- Name: COLUMN delivery_queue.losses; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.losses IS 'How many times in a row its runner vanished. Each time it waits longer before it is claimed again.';


--
-- Name: COLUMN delivery_queue.runner; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.runner IS 'The number of the runner that leased it (collecta.runners).';


--
-- Name: COLUMN delivery_queue.replay_of; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_queue.replay_of IS 'webhook_deliveries.id of the attempt that is replayed.';


--
-- Name: delivery_queue_delivery_id_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.delivery_queue ALTER COLUMN delivery_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.delivery_queue_delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: delivery_rollup; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.delivery_rollup (
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    starts_at timestamp with time zone NOT NULL,
    delivered bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    exhausted bigint DEFAULT 0 NOT NULL,
    blocked bigint DEFAULT 0 NOT NULL,
    lost bigint DEFAULT 0 NOT NULL,
    answers jsonb DEFAULT '{}'::jsonb NOT NULL,
    receipts jsonb DEFAULT '{}'::jsonb NOT NULL
);


ALTER TABLE collecta.delivery_rollup OWNER TO collecta_owner;

--
-- Name: TABLE delivery_rollup; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.delivery_rollup IS 'Counts of delivery attempts, which observe() writes. For each endpoint they are by minute for two hours, by hour for eight days, and by day until settings.rollup_retention. For all endpoints together they are by minute for a day, then likewise. Every attempt is counted in one row of its endpoint and in one row of the total.';


--
-- Name: COLUMN delivery_rollup.endpoint_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_rollup.endpoint_id IS 'Empty: all endpoints together.';


--
-- Name: COLUMN delivery_rollup.starts_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_rollup.starts_at IS 'The beginning of the minute, hour or day, in UTC.';


--
-- Name: COLUMN delivery_rollup.answers; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_rollup.answers IS 'How long the attempts took: {"11": 40} says that 40 took at most 2^(11/2) milliseconds, and more than 2^(10/2).';


--
-- Name: COLUMN delivery_rollup.receipts; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.delivery_rollup.receipts IS 'The time from the capture of the change to its delivery, counted in the same way.';


--
-- Name: endpoint_flow; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.endpoint_flow (
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    failing_since timestamp with time zone,
    held_until timestamp with time zone,
    held_at timestamp with time zone,
    delivered_since_hold integer DEFAULT 0 NOT NULL,
    pace integer,
    paced_at timestamp with time zone,
    learned_per_second real,
    raised_at timestamp with time zone,
    max_per_second integer,
    next_slot timestamp with time zone,
    CONSTRAINT endpoint_flow_max_per_second_in_bounds CHECK (((max_per_second >= 1) AND (max_per_second <= 10000)))
)
WITH (fillfactor='45', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');


ALTER TABLE collecta.endpoint_flow OWNER TO collecta_owner;

--
-- Name: TABLE endpoint_flow; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.endpoint_flow IS 'How fast an endpoint may be sent to at the moment. An endpoint without a row succeeds, and only max_in_flight limits it.';


--
-- Name: COLUMN endpoint_flow.failing_since; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.failing_since IS 'When the first attempt after the last success failed; null while it succeeds.';


--
-- Name: COLUMN endpoint_flow.held_until; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.held_until IS 'The receiver answered 429 or 503 with Retry-After: nothing is sent before this.';


--
-- Name: COLUMN endpoint_flow.held_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.held_at IS 'When the last hold began; delivered_since_hold counts from then.';


--
-- Name: COLUMN endpoint_flow.pace; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.pace IS 'How many deliveries may be in flight after a hold or an outage: from 1 it doubles up to max_in_flight, then it is null.';


--
-- Name: COLUMN endpoint_flow.learned_per_second; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.learned_per_second IS 'How many requests a second the receiver was seen to take. Null: nothing was learned, or it takes 1,000 or more.';


--
-- Name: COLUMN endpoint_flow.raised_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.raised_at IS 'When the learned rate was last raised.';


--
-- Name: COLUMN endpoint_flow.max_per_second; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.max_per_second IS 'The option of the endpoint, exact over all runners. Null: no limit.';


--
-- Name: COLUMN endpoint_flow.next_slot; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_flow.next_slot IS 'When the next request may begin, if a rate limits them.';


--
-- Name: endpoint_secrets; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.endpoint_secrets (
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    secret text NOT NULL COLLATE pg_catalog."C",
    previous_secret text COLLATE pg_catalog."C",
    previous_until timestamp with time zone,
    headers jsonb DEFAULT '{}'::jsonb NOT NULL
);
ALTER TABLE ONLY collecta.endpoint_secrets ALTER COLUMN secret SET STATISTICS 0;
ALTER TABLE ONLY collecta.endpoint_secrets ALTER COLUMN previous_secret SET STATISTICS 0;
ALTER TABLE ONLY collecta.endpoint_secrets ALTER COLUMN headers SET STATISTICS 0;


ALTER TABLE collecta.endpoint_secrets OWNER TO collecta_owner;

--
-- Name: TABLE endpoint_secrets; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.endpoint_secrets IS 'Signing secrets and request headers, in their own table because readers may not select them. They are plain, or sealed by `collecta-webhooks seal` with a key that is never in the database.';


--
-- Name: COLUMN endpoint_secrets.secret; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_secrets.secret IS 'The plain secret, or a sealed one: sealed:v1:<key id>:<base64 of nonce and AES-256-GCM ciphertext, which is bound to the endpoint_id>.';


--
-- Name: COLUMN endpoint_secrets.previous_secret; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_secrets.previous_secret IS 'The old secret during the overlap of rotate_secret. Then webhook-signature has a signature with each secret, and X-Webhook-Signature is made with the old one.';


--
-- Name: COLUMN endpoint_secrets.headers; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoint_secrets.headers IS 'Extra request headers: an object from name to value, or a string if they are sealed.';


--
-- Name: endpoints; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.endpoints (
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    name text COLLATE pg_catalog."C",
    url text NOT NULL COLLATE pg_catalog."C",
    events text[] NOT NULL COLLATE pg_catalog."C",
    modules text[] COLLATE pg_catalog."C",
    state text DEFAULT 'active'::text NOT NULL COLLATE pg_catalog."C",
    paused_reason text COLLATE pg_catalog."C",
    filter jsonpath,
    scope text COLLATE pg_catalog."C",
    ordered boolean DEFAULT false NOT NULL,
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    headers jsonb DEFAULT '{}'::jsonb NOT NULL,
    retry_max integer DEFAULT 5 NOT NULL,
    retry_base interval DEFAULT '00:01:00'::interval NOT NULL,
    max_in_flight integer DEFAULT 50 NOT NULL,
    after_change_id bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT endpoints_events_are_known CHECK (((events <> '{}'::text[]) AND (array_position(events, NULL::text) IS NULL) AND (events <@ (ARRAY['record_created'::text, 'record_updated'::text, 'record_deleted'::text, 'status_change'::text, 'custom_data_updated'::text] || collecta.alert_events())))),
    CONSTRAINT endpoints_headers_are_an_object CHECK ((jsonb_typeof(headers) = 'object'::text)),
    CONSTRAINT endpoints_max_in_flight_in_bounds CHECK (((max_in_flight >= 1) AND (max_in_flight <= 10000))),
    CONSTRAINT endpoints_modules_are_some CHECK (((modules <> '{}'::text[]) AND (array_position(modules, NULL::text) IS NULL))),
    CONSTRAINT endpoints_retry_base_in_bounds CHECK (((retry_base >= '00:00:00.1'::interval) AND (retry_base <= '1 day'::interval))),
    CONSTRAINT endpoints_retry_max_in_bounds CHECK (((retry_max >= 0) AND (retry_max <= 20))),
    CONSTRAINT endpoints_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'paused'::text, 'deleted'::text]))),
    CONSTRAINT endpoints_url_is_http CHECK (((url ~ '^https?://[^/?#@[:space:]]+([/?][^#[:space:]]*)?$'::text) AND (length(url) <= 2048)))
);


ALTER TABLE collecta.endpoints OWNER TO collecta_owner;

--
-- Name: TABLE endpoints; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.endpoints IS 'Destinations of webhooks. collecta.create_endpoint creates them. The row of a deleted endpoint stays, and its id is never used again.';


--
-- Name: COLUMN endpoints.name; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.name IS 'Makes create_endpoint idempotent: a call with the same name updates and returns the same endpoint.';


--
-- Name: COLUMN endpoints.modules; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.modules IS 'Slugs of modules. Null: all modules, future ones included.';


--
-- Name: COLUMN endpoints.state; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.state IS 'active; paused (its deliveries wait in the queue); deleted (its history stays).';


--
-- Name: COLUMN endpoints.paused_reason; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.paused_reason IS 'Why the endpoint is paused: the reason given to pause_endpoint, a 410, or failures for settings.pause_after.';


--
-- Name: COLUMN endpoints.filter; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.filter IS 'An SQL/JSON path predicate over the payload (jsonb_path_match). Only events for which it is true are delivered.';


--
-- Name: COLUMN endpoints.scope; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.scope IS 'Only events of records whose scope column has this value are delivered.';


--
-- Name: COLUMN endpoints.ordered; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.ordered IS 'Whether the events of each record are delivered one at a time, in the order of the changes.';


--
-- Name: COLUMN endpoints.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.payload_role IS 'The payload has only the columns that this role may SELECT. Table and column privileges count; row security is not evaluated. Empty: all captured columns.';


--
-- Name: COLUMN endpoints.headers; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.headers IS 'Extra request headers. The values of headers that may carry credentials are masked here.';


--
-- Name: COLUMN endpoints.retry_max; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.retry_max IS 'Number of retries after the first attempt. 5 means six attempts.';


--
-- Name: COLUMN endpoints.retry_base; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.retry_base IS 'The wait after the first failed attempt. It doubles after each further one.';


--
-- Name: COLUMN endpoints.max_in_flight; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.max_in_flight IS 'Most deliveries in flight at once, over all runners.';


--
-- Name: COLUMN endpoints.after_change_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.endpoints.after_change_id IS 'The last change_id of the outbox when the endpoint was created. It gets only changes captured after that.';


--
-- Name: events; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.events (
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    "position" integer NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    body text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY RANGE (routed_at);


ALTER TABLE collecta.events OWNER TO collecta_owner;

--
-- Name: TABLE events; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.events IS 'What changes meant to subscribers, with the body that is sent. Events never change. They are kept for settings.retention and partitioned by the day of routing.';


--
-- Name: COLUMN events.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events.event_id IS 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';


--
-- Name: COLUMN events.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events.payload_role IS 'Empty, or the payload_role of the endpoints that get this body.';


--
-- Name: COLUMN events.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events.routed_at IS 'When it was routed, which is later than it occurred. The partition key.';


--
-- Name: COLUMN events.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened. The events of one change share it.';


--
-- Name: COLUMN events."position"; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events."position" IS 'The order among the events of one change.';


--
-- Name: COLUMN events.record_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events.record_id IS 'The primary key as text; for a composite key the compact JSON array in key order.';


--
-- Name: events_20261128; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.events_20261128 (
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    "position" integer NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    body text NOT NULL COLLATE pg_catalog."C"
);


ALTER TABLE collecta.events_20261128 OWNER TO collecta_owner;

--
-- Name: COLUMN events_20261128.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128.event_id IS 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';


--
-- Name: COLUMN events_20261128.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128.payload_role IS 'Empty, or the payload_role of the endpoints that get this body.';


--
-- Name: COLUMN events_20261128.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128.routed_at IS 'When it was routed, which is later than it occurred. The partition key.';


--
-- Name: COLUMN events_20261128.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened. The events of one change share it.';


--
-- Name: COLUMN events_20261128."position"; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128."position" IS 'The order among the events of one change.';


--
-- Name: COLUMN events_20261128.record_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261128.record_id IS 'The primary key as text; for a composite key the compact JSON array in key order.';


--
-- Name: events_20261129; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.events_20261129 (
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    "position" integer NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    body text NOT NULL COLLATE pg_catalog."C"
);


ALTER TABLE collecta.events_20261129 OWNER TO collecta_owner;

--
-- Name: COLUMN events_20261129.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129.event_id IS 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';


--
-- Name: COLUMN events_20261129.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129.payload_role IS 'Empty, or the payload_role of the endpoints that get this body.';


--
-- Name: COLUMN events_20261129.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129.routed_at IS 'When it was routed, which is later than it occurred. The partition key.';


--
-- Name: COLUMN events_20261129.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened. The events of one change share it.';


--
-- Name: COLUMN events_20261129."position"; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129."position" IS 'The order among the events of one change.';


--
-- Name: COLUMN events_20261129.record_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261129.record_id IS 'The primary key as text; for a composite key the compact JSON array in key order.';


--
-- Name: events_20261130; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.events_20261130 (
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    "position" integer NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    body text NOT NULL COLLATE pg_catalog."C"
);


ALTER TABLE collecta.events_20261130 OWNER TO collecta_owner;

--
-- Name: COLUMN events_20261130.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130.event_id IS 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';


--
-- Name: COLUMN events_20261130.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130.payload_role IS 'Empty, or the payload_role of the endpoints that get this body.';


--
-- Name: COLUMN events_20261130.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130.routed_at IS 'When it was routed, which is later than it occurred. The partition key.';


--
-- Name: COLUMN events_20261130.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened. The events of one change share it.';


--
-- Name: COLUMN events_20261130."position"; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130."position" IS 'The order among the events of one change.';


--
-- Name: COLUMN events_20261130.record_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261130.record_id IS 'The primary key as text; for a composite key the compact JSON array in key order.';


--
-- Name: events_20261201; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.events_20261201 (
    event_id text NOT NULL COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    "position" integer NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    event text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    body text NOT NULL COLLATE pg_catalog."C"
);


ALTER TABLE collecta.events_20261201 OWNER TO collecta_owner;

--
-- Name: COLUMN events_20261201.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201.event_id IS 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';


--
-- Name: COLUMN events_20261201.payload_role; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201.payload_role IS 'Empty, or the payload_role of the endpoints that get this body.';


--
-- Name: COLUMN events_20261201.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201.routed_at IS 'When it was routed, which is later than it occurred. The partition key.';


--
-- Name: COLUMN events_20261201.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened. The events of one change share it.';


--
-- Name: COLUMN events_20261201."position"; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201."position" IS 'The order among the events of one change.';


--
-- Name: COLUMN events_20261201.record_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.events_20261201.record_id IS 'The primary key as text; for a composite key the compact JSON array in key order.';


--
-- Name: health; Type: VIEW; Schema: collecta; Owner: collecta_owner
--

CREATE VIEW collecta.health AS
 SELECT check_health.severity,
    check_health.problem,
    check_health.subject,
    check_health.detail,
    check_health.hint
   FROM collecta.check_health() check_health(severity, problem, subject, detail, hint);


ALTER TABLE collecta.health OWNER TO collecta_owner;

--
-- Name: VIEW health; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON VIEW collecta.health IS 'Problems that need a DBA, each with the statement that helps. If there is no row, nothing needs attention.';


--
-- Name: inbound_budgets; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_budgets (
    inbound_endpoint_id text NOT NULL COLLATE pg_catalog."C",
    slot integer NOT NULL,
    taken_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='0');


ALTER TABLE collecta.inbound_budgets OWNER TO collecta_owner;

--
-- Name: TABLE inbound_budgets; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_budgets IS 'The rate limit: as many rows as requests are allowed in 60 seconds, each with the time it was last taken.';


--
-- Name: inbound_endpoints_function_number_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.inbound_endpoints ALTER COLUMN function_number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.inbound_endpoints_function_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: inbound_refusals; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_refusals (
    day date NOT NULL,
    inbound_endpoint_id text NOT NULL COLLATE pg_catalog."C",
    status integer NOT NULL,
    requests bigint NOT NULL
);


ALTER TABLE collecta.inbound_refusals OWNER TO collecta_owner;

--
-- Name: TABLE inbound_refusals; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_refusals IS 'The number of requests that were refused and not stored, by day (UTC) and status. They are counted in memory and written every few seconds, so that a flood of requests does not cause a write for each.';


--
-- Name: COLUMN inbound_refusals.inbound_endpoint_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_refusals.inbound_endpoint_id IS 'Empty if the URL belongs to no endpoint (404, 405, and the limit per address).';


--
-- Name: inbound_requests; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_requests (
    request_id text DEFAULT collecta.new_id('req'::text) NOT NULL COLLATE pg_catalog."C",
    inbound_endpoint_id text NOT NULL COLLATE pg_catalog."C",
    received_at timestamp with time zone NOT NULL,
    state collecta.inbound_request_state NOT NULL,
    operation text COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    reason text COLLATE pg_catalog."C",
    column_name text COLLATE pg_catalog."C",
    sqlstate text COLLATE pg_catalog."C",
    error text COLLATE pg_catalog."C",
    attempts integer DEFAULT 1 NOT NULL,
    finished_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    mapping_version integer NOT NULL,
    key_hash text COLLATE pg_catalog."C",
    body_digest text COLLATE pg_catalog."C",
    results json,
    body text NOT NULL COLLATE pg_catalog."C"
);


ALTER TABLE collecta.inbound_requests OWNER TO collecta_owner;

--
-- Name: TABLE inbound_requests; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_requests IS 'Every authentic request that was written or could not be written, for settings.retention. To process failed ones again, correct the mapping and call collecta.retry_inbound(...).';


--
-- Name: COLUMN inbound_requests.state; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.state IS 'accepted (the record is written); partial (some elements of a batch are); ignored (an event that becomes no record); failed (reason says why); retry (retry_inbound was called, the receiving process is about to run it); duplicate (its idempotency key was used by another request meanwhile).';


--
-- Name: COLUMN inbound_requests.operation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.operation IS 'created, updated, or unchanged (the record matched, and a trigger or rule suppressed the UPDATE).';


--
-- Name: COLUMN inbound_requests.reason; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.reason IS 'Why it could not be written, as the sender was told.';


--
-- Name: COLUMN inbound_requests.error; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.error IS 'PostgreSQL''s own message, which may quote values: for the DBA, never sent.';


--
-- Name: COLUMN inbound_requests.key_hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.key_hash IS 'SHA-256 of the sender''s id of the request, or of Idempotency-Key. A request with the same one is answered from this row and writes nothing.';


--
-- Name: COLUMN inbound_requests.body_digest; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.body_digest IS 'SHA-256 of the body if the signature covers neither an id nor a time. The same body counts as a repetition for as long as digest_window says.';


--
-- Name: COLUMN inbound_requests.results; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.results IS 'Of a batch: for each element its recordId and operation, or its detail and column.';


--
-- Name: COLUMN inbound_requests.body; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_requests.body IS 'The request''s payload as it came; of a form, its fields as a JSON object.';


--
-- Name: inbound_secrets; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_secrets (
    inbound_endpoint_id text NOT NULL COLLATE pg_catalog."C",
    token_hash text NOT NULL COLLATE pg_catalog."C",
    previous_token_hash text COLLATE pg_catalog."C",
    previous_token_until timestamp with time zone,
    secret text COLLATE pg_catalog."C",
    previous_secret text COLLATE pg_catalog."C",
    previous_secret_until timestamp with time zone
);
ALTER TABLE ONLY collecta.inbound_secrets ALTER COLUMN secret SET STATISTICS 0;
ALTER TABLE ONLY collecta.inbound_secrets ALTER COLUMN previous_secret SET STATISTICS 0;


ALTER TABLE collecta.inbound_secrets OWNER TO collecta_owner;

--
-- Name: TABLE inbound_secrets; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_secrets IS 'Hashes of tokens and the signing secrets, plain or sealed, apart from what readers may select.';


--
-- Name: COLUMN inbound_secrets.token_hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_secrets.token_hash IS 'SHA-256 of the token in hexadecimal; the token itself is shown once and kept nowhere.';


--
-- Name: inbound_senders; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.inbound_senders (
    sender text NOT NULL COLLATE pg_catalog."C",
    about text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    documentation text COLLATE pg_catalog."C",
    signatures jsonb DEFAULT '[]'::jsonb NOT NULL,
    ids text[] DEFAULT '{}'::text[] NOT NULL COLLATE pg_catalog."C",
    event text COLLATE pg_catalog."C",
    ignored_events text[] DEFAULT '{}'::text[] NOT NULL COLLATE pg_catalog."C",
    handshakes jsonb DEFAULT '[]'::jsonb NOT NULL,
    content_types text[] DEFAULT '{json,form}'::text[] NOT NULL COLLATE pg_catalog."C",
    form_field text COLLATE pg_catalog."C",
    each text COLLATE pg_catalog."C",
    shipped boolean DEFAULT false NOT NULL,
    CONSTRAINT inbound_senders_content_types_are_known CHECK ((content_types <@ '{json,form,text}'::text[])),
    CONSTRAINT inbound_senders_sender_is_well_formed CHECK ((sender ~ ('^[a-z0-9][a-z0-9_-]{0,62}$'::text COLLATE "C")))
);


ALTER TABLE collecta.inbound_senders OWNER TO collecta_owner;

--
-- Name: TABLE inbound_senders; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.inbound_senders IS 'How well-known senders sign, number and introduce their requests: one row each, taken by create_inbound_endpoint(sender => ...). Insert a row for a sender of your own; an upgrade replaces the shipped ones only.';


--
-- Name: COLUMN inbound_senders.signatures; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.signatures IS 'The ways in which a request can be signed; one that matches is enough. Each is an object: in (where the signature stands: header:<name> or a path into the body), separator and prefix (of one signature among several), encoding (hex, base64, or plain: the secret itself), hash (sha256, sha1, sha512), key (text: the secret''s UTF-8 bytes; base64: what stands in base64 after whsec_), signed (a template of {body}, {timestamp}, {id}, {url}, {form} and {$.path}), id and timestamp (where they stand; signature:<prefix> is inside the signature''s header), max_age (seconds, 300).';


--
-- Name: COLUMN inbound_senders.ids; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.ids IS 'Where the id stands that a repeated request has again: header:<name> or a path. The first that is there counts.';


--
-- Name: COLUMN inbound_senders.event; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.event IS 'Where the event''s name stands: header:<name> or a path.';


--
-- Name: COLUMN inbound_senders.ignored_events; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.ignored_events IS 'Events that are answered and kept as ignored, and become no record: a ping, say.';


--
-- Name: COLUMN inbound_senders.handshakes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.handshakes IS 'Requests that are no payload, and their answers. Each is an object: method (POST), when (values that query:<name>, header:<name> or paths have; true: any value; "{token}": the token of the URL), answer (a template), signed (false: answered before a signature is asked for).';


--
-- Name: COLUMN inbound_senders.content_types; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.content_types IS 'Of json, form (application/x-www-form-urlencoded, its fields become an object) and text (JSON sent as text/plain).';


--
-- Name: COLUMN inbound_senders.form_field; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.form_field IS 'The field of a form that holds the payload as JSON.';


--
-- Name: COLUMN inbound_senders.each; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.each IS 'The array in the payload whose elements are the records.';


--
-- Name: COLUMN inbound_senders.shipped; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.inbound_senders.shipped IS 'Whether an upgrade may replace the row. Leave it out in rows of your own.';


--
-- Name: installation; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.installation (
    singleton boolean DEFAULT true NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    branch text COLLATE pg_catalog."C",
    identity text GENERATED ALWAYS AS (((((system_identifier)::text || '/'::text) || (database_oid)::text) || COALESCE(('/'::text || branch), ''::text))) STORED COLLATE pg_catalog."C",
    environment text COLLATE pg_catalog."C",
    delivers boolean DEFAULT true NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_is_one_row CHECK (singleton)
);


ALTER TABLE collecta.installation OWNER TO collecta_owner;

--
-- Name: TABLE installation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.installation IS 'Which database collecta was installed in. In a restored or cloned database no delivery is claimed until somebody calls collecta.resume_after_restore(), so that staging does not send production''s webhooks.';


--
-- Name: COLUMN installation.branch; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.installation.branch IS 'The timeline on Neon, where a branch has the system identifier and the database oid of its parent. Null elsewhere.';


--
-- Name: COLUMN installation.identity; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.installation.identity IS 'The value of collecta.database_identity() in the database that collecta was installed in.';


--
-- Name: COLUMN installation.environment; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.installation.environment IS 'The COLLECTA_ENVIRONMENT of the runners. A physical copy has the same identifiers as its original, so only this label tells them apart. Null: it is not compared.';


--
-- Name: COLUMN installation.delivers; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.installation.delivers IS 'False after collecta.disable_copy(): this database captures nothing, and no delivery is claimed from it.';


--
-- Name: migrations; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.migrations (
    filename text NOT NULL COLLATE pg_catalog."C",
    hash text NOT NULL COLLATE pg_catalog."C",
    previous_hash text COLLATE pg_catalog."C",
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);


ALTER TABLE collecta.migrations OWNER TO collecta_owner;

--
-- Name: TABLE migrations; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.migrations IS 'Which files of sql/committed are installed here: the ledger of `collecta-webhooks migrate` and of sql/install.psql.';


--
-- Name: COLUMN migrations.filename; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.migrations.filename IS 'Name of the file in sql/committed.';


--
-- Name: COLUMN migrations.hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.migrations.hash IS 'The file''s hash as its header says; it covers the previous one''s, so the files form a chain.';


--
-- Name: COLUMN migrations.previous_hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.migrations.previous_hash IS 'Hash of the file before; null for the first.';


--
-- Name: COLUMN migrations.applied_at; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.migrations.applied_at IS 'When its transaction began.';


--
-- Name: module_tables; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.module_tables (
    slug text NOT NULL COLLATE pg_catalog."C",
    relation regclass NOT NULL,
    named text NOT NULL COLLATE pg_catalog."C",
    row_secured boolean NOT NULL
);


ALTER TABLE collecta.module_tables OWNER TO collecta_owner;

--
-- Name: TABLE module_tables; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.module_tables IS 'Tables that are or were attached, and their partitions that have row security. collecta.row_secured_modules uses it to hide the contents of records. attach_module, detach_module and maintain() write it.';


--
-- Name: COLUMN module_tables.row_secured; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.module_tables.row_secured IS 'Whether the table had row security when it was last checked. This decides once the table is dropped. True of a table that was dropped while it was attached, because it may have had row security in the end.';


--
-- Name: module_versions_version_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.module_versions ALTER COLUMN version ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.module_versions_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: modules; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.modules (
    module_id integer NOT NULL,
    slug text NOT NULL COLLATE pg_catalog."C",
    relation regclass NOT NULL,
    attached_as text NOT NULL COLLATE pg_catalog."C",
    current_version integer,
    written_for text COLLATE pg_catalog."C",
    written_hash jsonb,
    attached_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT modules_slug_is_well_formed CHECK ((slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text))
);


ALTER TABLE collecta.modules OWNER TO collecta_owner;

--
-- Name: TABLE modules; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.modules IS 'Attached tables. attach_module inserts a row, and detach_module deletes it.';


--
-- Name: COLUMN modules.slug; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.modules.slug IS 'The name of the module in payloads and inbound URLs.';


--
-- Name: COLUMN modules.attached_as; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.modules.attached_as IS 'The table''s name when it was attached. If another table has this name now, collecta.health reports it.';


--
-- Name: COLUMN modules.current_version; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.modules.current_version IS 'The current row of module_versions. Captured changes refer to the version under which they were captured.';


--
-- Name: COLUMN modules.written_for; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.modules.written_for IS 'The state from which the capture functions were generated; see capture_inputs.';


--
-- Name: COLUMN modules.written_hash; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.modules.written_hash IS 'Hashes of the capture functions as they were generated. If a function no longer matches, collecta.health reports it and maintain() generates it again.';


--
-- Name: modules_module_id_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.modules ALTER COLUMN module_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.modules_module_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: muted_changes; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.muted_changes (
    change_id bigint NOT NULL,
    module text NOT NULL COLLATE pg_catalog."C",
    operation text NOT NULL COLLATE pg_catalog."C",
    records bigint NOT NULL,
    transaction_id xid8 NOT NULL,
    context text COLLATE pg_catalog."C",
    captured_at timestamp with time zone NOT NULL
);


ALTER TABLE collecta.muted_changes OWNER TO collecta_owner;

--
-- Name: TABLE muted_changes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.muted_changes IS 'Statements that were executed while collecta.muted was on, and so were not captured. Kept for settings.retention.';


--
-- Name: observation; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.observation (
    singleton boolean DEFAULT true NOT NULL,
    counted_until timestamp with time zone DEFAULT now() NOT NULL,
    folded_until timestamp with time zone DEFAULT date_trunc('hour'::text, now()) NOT NULL,
    CONSTRAINT observation_is_one_row CHECK (singleton)
);


ALTER TABLE collecta.observation OWNER TO collecta_owner;

--
-- Name: TABLE observation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.observation IS 'One row that says up to which time observe() has counted the attempts.';


--
-- Name: operator_actions; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.operator_actions (
    action_id bigint NOT NULL,
    done_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    done_by name NOT NULL,
    login name NOT NULL,
    statement text NOT NULL COLLATE pg_catalog."C",
    touched bigint
);


ALTER TABLE collecta.operator_actions OWNER TO collecta_owner;

--
-- Name: TABLE operator_actions; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.operator_actions IS 'What was done in the console: who did it, when, and with which statement. Rows are kept until somebody deletes them.';


--
-- Name: COLUMN operator_actions.done_by; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.operator_actions.done_by IS 'The role that acted.';


--
-- Name: COLUMN operator_actions.login; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.operator_actions.login IS 'The role that logged in to PostgreSQL. It is the same, or the console''s own login if a proxy names the person.';


--
-- Name: COLUMN operator_actions.touched; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.operator_actions.touched IS 'How many deliveries, requests or changes were affected.';


--
-- Name: operator_actions_action_id_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.operator_actions ALTER COLUMN action_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.operator_actions_action_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: outbox_change_id_seq; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.outbox ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME collecta.outbox_change_id_seq
    START WITH 2
    INCREMENT BY 2
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: reorderings; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.reorderings (
    module_id integer NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ended_in xid8
);


ALTER TABLE collecta.reorderings OWNER TO collecta_owner;

--
-- Name: TABLE reorderings; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.reorderings IS 'Modules of which one transaction changed thousands of records at several trigger depths, or their keys. A runner puts their changes in order apart, and other modules are routed in the meantime. Usually empty.';


--
-- Name: COLUMN reorderings.ended_in; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.reorderings.ended_in IS 'The transaction that put the changes in order; null while they wait. Such rows are deleted after a day.';


--
-- Name: restored_grants; Type: MATERIALIZED VIEW; Schema: collecta; Owner: collecta_owner
--

CREATE MATERIALIZED VIEW collecta.restored_grants AS
 SELECT restored.object
   FROM collecta.restore_grants() restored(object)
  WITH NO DATA;


ALTER TABLE collecta.restored_grants OWNER TO collecta_owner;

--
-- Name: MATERIALIZED VIEW restored_grants; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON MATERIALIZED VIEW collecta.restored_grants IS 'The objects whose privileges were restored when this view was filled: at the install, or at the end of pg_restore.';


--
-- Name: restricted_logins; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.restricted_logins (
    login name NOT NULL,
    login_oid oid NOT NULL,
    database text NOT NULL COLLATE pg_catalog."C",
    scopes text[] NOT NULL COLLATE pg_catalog."C",
    restricted_at timestamp with time zone DEFAULT now() NOT NULL
);


ALTER TABLE collecta.restricted_logins OWNER TO collecta_owner;

--
-- Name: TABLE restricted_logins; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.restricted_logins IS 'Roles that may see only what belongs to their scopes (tenants). restrict_login() writes it.';


--
-- Name: COLUMN restricted_logins.login; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.restricted_logins.login IS 'The restricted role. Members that inherit its rights are restricted too. In a restored copy, the role of this name is restricted.';


--
-- Name: COLUMN restricted_logins.login_oid; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.restricted_logins.login_oid IS 'The oid of the role, so that it is still restricted after it was renamed.';


--
-- Name: COLUMN restricted_logins.database; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.restricted_logins.database IS 'The database in which login_oid is valid.';


--
-- Name: COLUMN restricted_logins.scopes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.restricted_logins.scopes IS 'Values of a module''s scope column.';


--
-- Name: routing_trouble; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.routing_trouble (
    singleton boolean DEFAULT true NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    sqlstate text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT routing_trouble_is_one_row CHECK (singleton)
);


ALTER TABLE collecta.routing_trouble OWNER TO collecta_owner;

--
-- Name: TABLE routing_trouble; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.routing_trouble IS 'Why nothing is routed at the moment, for example a lock, a full disk or a missing partition. Empty while routing works.';


--
-- Name: row_secured_modules; Type: VIEW; Schema: collecta; Owner: collecta_owner
--

CREATE VIEW collecta.row_secured_modules AS
 SELECT DISTINCT m.slug,
    m.relation
   FROM (( SELECT v.slug,
            v.relation,
            NULL::text AS named,
            false AS row_secured
           FROM collecta.module_versions v
        UNION ALL
         SELECT t.slug,
            t.relation,
            t.named,
            t.row_secured
           FROM collecta.module_tables t) m
     LEFT JOIN (pg_class c
     JOIN pg_namespace n ON ((n.oid = c.relnamespace))) ON ((c.oid = (m.relation)::oid)))
  WHERE ((NOT ( SELECT pg_has_role(CURRENT_USER, e.relowner, 'usage'::text) AS pg_has_role
           FROM pg_class e
          WHERE (e.oid = ('collecta.events'::regclass)::oid))) AND
        CASE
            WHEN ((c.oid IS NULL) OR (m.named <> ((quote_ident((n.nspname)::text) || '.'::text) || quote_ident((c.relname)::text)))) THEN (row_security_active(('collecta.events'::regclass)::oid) AND (m.row_secured OR COALESCE(c.relrowsecurity, false) OR ((c.oid IS NULL) AND (EXISTS ( SELECT
               FROM collecta.modules a
              WHERE ((a.slug = m.slug) AND ((a.relation)::oid = (m.relation)::oid)))))))
            ELSE ((c.relrowsecurity AND row_security_active(c.oid)) OR ((c.relkind = 'p'::"char") AND (EXISTS ( SELECT
               FROM (pg_partition_tree((c.oid)::regclass) p(relid, parentrelid, isleaf, level)
                 JOIN pg_class leaf ON ((leaf.oid = (p.relid)::oid)))
              WHERE (leaf.relrowsecurity AND row_security_active(leaf.oid))))))
        END);


ALTER TABLE collecta.row_secured_modules OWNER TO collecta_owner;

--
-- Name: VIEW row_secured_modules; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON VIEW collecta.row_secured_modules IS 'Modules whose table, or a partition of it, has row security that applies to you, or had it and is gone. What their
records held is hidden from you: their events, what was received into them, what was set aside, and what receivers
answered. Of their deliveries you see time, endpoint and outcome.';


--
-- Name: runner_numbers; Type: SEQUENCE; Schema: collecta; Owner: collecta_owner
--

CREATE SEQUENCE collecta.runner_numbers
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
    CYCLE;


ALTER TABLE collecta.runner_numbers OWNER TO collecta_owner;

--
-- Name: runners; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.runners (
    runner integer NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    missing_since timestamp with time zone
);


ALTER TABLE collecta.runners OWNER TO collecta_owner;

--
-- Name: TABLE runners; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.runners IS 'The runners that deliver. Each holds a session advisory lock on its number. A runner whose lock has been missing for some seconds is dead.';


--
-- Name: secret_overlaps; Type: VIEW; Schema: collecta; Owner: collecta_owner
--

CREATE VIEW collecta.secret_overlaps WITH (security_barrier='true') AS
 SELECT s.endpoint_id,
    s.previous_until
   FROM collecta.endpoint_secrets s
  WHERE ((s.previous_until > now()) AND ((( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes) IS NULL) OR (s.endpoint_id IN ( SELECT e.endpoint_id
           FROM collecta.endpoints e
          WHERE (e.scope = ANY (( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes)::text[]))))));


ALTER TABLE collecta.secret_overlaps OWNER TO collecta_owner;

--
-- Name: VIEW secret_overlaps; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON VIEW collecta.secret_overlaps IS 'Endpoints whose secret was rotated and whose old secret still signs, with the end of the overlap. It contains no secret.';


--
-- Name: settings; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.settings (
    singleton boolean DEFAULT true NOT NULL,
    retention interval DEFAULT '30 days'::interval NOT NULL,
    rollup_retention interval DEFAULT '90 days'::interval NOT NULL,
    alert_interval interval DEFAULT '00:10:00'::interval NOT NULL,
    lease interval DEFAULT '00:01:00'::interval NOT NULL,
    max_record_bytes integer DEFAULT 1000000 NOT NULL,
    max_truncate_records integer DEFAULT 10000 NOT NULL,
    pause_after interval DEFAULT '5 days'::interval NOT NULL,
    notify boolean,
    CONSTRAINT settings_is_one_row CHECK (singleton),
    CONSTRAINT settings_lease_outlasts_the_deadline CHECK ((lease >= '00:00:45'::interval)),
    CONSTRAINT settings_max_record_bytes_in_bounds CHECK (((max_record_bytes >= 1000) AND (max_record_bytes <= 100000000))),
    CONSTRAINT settings_max_truncate_records_in_bounds CHECK (((max_truncate_records >= 0) AND (max_truncate_records <= 10000000))),
    CONSTRAINT settings_pause_after_is_an_hour_or_more CHECK ((pause_after >= '01:00:00'::interval)),
    CONSTRAINT settings_retention_is_a_day_or_more CHECK ((retention >= '1 day'::interval))
);


ALTER TABLE collecta.settings OWNER TO collecta_owner;

--
-- Name: TABLE settings; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.settings IS 'One row with the settings of this install. Change them with UPDATE. They are read each time they are used.';


--
-- Name: COLUMN settings.retention; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.retention IS 'How long events and delivery attempts are kept. collecta.maintain() drops whole days.';


--
-- Name: COLUMN settings.rollup_retention; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.rollup_retention IS 'How long the counts in collecta.delivery_rollup are kept. They are kept at least as long as the attempts.';


--
-- Name: COLUMN settings.alert_interval; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.alert_interval IS 'Within this time at most one alert of the same kind about the same subject is sent.';


--
-- Name: COLUMN settings.lease; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.lease IS 'After this time a claimed delivery is claimed again if its runner neither recorded nor returned it. It must be longer than an exchange, which ends after 30 s, and leave time to record the result.';


--
-- Name: COLUMN settings.max_record_bytes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.max_record_bytes IS 'If a row''s captured columns are larger than this, only its key, scope and status are captured, with "truncated": true.';


--
-- Name: COLUMN settings.max_truncate_records; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.max_truncate_records IS 'A TRUNCATE of more records than this sends one record_deleted with a count, instead of one for each record.';


--
-- Name: COLUMN settings.pause_after; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.pause_after IS 'An endpoint that has failed for this long without one success is paused.';


--
-- Name: COLUMN settings.notify; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.settings.notify IS 'Whether writers wake a sleeping runner with NOTIFY. Null: yes, unless max_prepared_transactions is above 0, because PREPARE TRANSACTION refuses a transaction that has notified. A change takes effect at the next collecta.maintain().';


--
-- Name: subscriptions; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.subscriptions (
    module_id integer NOT NULL,
    event text NOT NULL COLLATE pg_catalog."C",
    endpoint_id text NOT NULL COLLATE pg_catalog."C",
    scope text COLLATE pg_catalog."C",
    after_change_id bigint NOT NULL
);


ALTER TABLE collecta.subscriptions OWNER TO collecta_owner;

--
-- Name: TABLE subscriptions; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.subscriptions IS 'Which endpoint gets which event of which module. It has a row for each combination, so that routing is an index look-up. The endpoint functions maintain it.';


--
-- Name: COLUMN subscriptions.scope; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.subscriptions.scope IS 'The endpoint''s scope. It is indexed, so that ten thousand tenants'' endpoints of one module cost no more than one.';


--
-- Name: undelivered; Type: VIEW; Schema: collecta; Owner: collecta_viewer
--

CREATE VIEW collecta.undelivered AS
 SELECT a.id,
    a.event_id,
    a.endpoint_id,
    v.module,
    v.event,
    v.record_id,
    v.sequence,
    a.attempt,
    a.url,
    a.response_status,
        CASE
            WHEN (v.event_id IS NOT NULL) THEN a.error
            WHEN (a.error IS NOT NULL) THEN 'hidden'::text
            ELSE NULL::text
        END AS error,
    a.started_at,
    a.finished_at,
    v.occurred_at,
    a.routed_at
   FROM (collecta.delivery_attempts a
     LEFT JOIN collecta.events v ON (((v.event_id = a.event_id) AND (v.payload_role = a.payload_role) AND (v.routed_at = a.routed_at))))
  WHERE ((a.outcome = 'exhausted'::text) AND (NOT (EXISTS ( SELECT
           FROM collecta.endpoints e
          WHERE ((e.endpoint_id = a.endpoint_id) AND (e.state = 'deleted'::text))))) AND (NOT (EXISTS ( SELECT
           FROM collecta.delivery_attempts l
          WHERE ((l.event_id = a.event_id) AND (l.endpoint_id = a.endpoint_id) AND (l.routed_at = a.routed_at) AND (l.id > a.id) AND (l.outcome = ANY (ARRAY['delivered'::text, 'exhausted'::text])))))) AND (NOT (EXISTS ( SELECT
           FROM collecta.delivery_queue q
          WHERE ((q.event_id = a.event_id) AND (q.endpoint_id = a.endpoint_id) AND (q.replay_of IS NOT NULL))))) AND ( SELECT (collecta.is_walled('undelivered'::text) OR ((NOT (EXISTS ( SELECT
                   FROM collecta.row_secured_modules))) AND (collecta.visible_scopes(CURRENT_USER) IS NULL)))));


ALTER TABLE collecta.undelivered OWNER TO collecta_viewer;

--
-- Name: VIEW undelivered; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON VIEW collecta.undelivered IS 'Deliveries that were given up, and neither delivered nor queued again since: one row each, with the last attempt. select collecta.replay_undelivered(); sends them again. What row security hides is null, as in webhook_deliveries.';


--
-- Name: COLUMN undelivered.id; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.undelivered.id IS 'The last attempt; give it to replay_delivery(id).';


--
-- Name: COLUMN undelivered.error; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.undelivered.error IS 'What the receiver, the look-up or the guard said last.';


--
-- Name: unrouted; Type: TABLE; Schema: collecta; Owner: collecta_owner
--

CREATE TABLE collecta.unrouted (
    change_id bigint NOT NULL,
    "position" integer DEFAULT 0 NOT NULL,
    endpoint_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    module text NOT NULL COLLATE pg_catalog."C",
    record_id text COLLATE pg_catalog."C",
    record_key bigint,
    event_id text COLLATE pg_catalog."C",
    payload_role text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    routed_at timestamp with time zone,
    version integer,
    operation collecta.operation,
    old json,
    new json,
    transaction_id xid8,
    trigger_depth integer,
    captured_at timestamp with time zone,
    context text COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    set_aside_at timestamp with time zone DEFAULT now() NOT NULL,
    again boolean DEFAULT false NOT NULL
);


ALTER TABLE collecta.unrouted OWNER TO collecta_owner;

--
-- Name: TABLE unrouted; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON TABLE collecta.unrouted IS 'What could not be routed, and why. It stops nothing else. Remove the cause, then select collecta.route_again().';


--
-- Name: COLUMN unrouted.endpoint_id; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.unrouted.endpoint_id IS 'The endpoint that did not get the event, for example because its filter failed. Empty: the whole change was set aside.';


--
-- Name: COLUMN unrouted.record_key; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.unrouted.record_key IS 'A hash of module and record: at ordered endpoints, later events of the record wait. Null if the key cannot be read.';


--
-- Name: COLUMN unrouted.operation; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.unrouted.operation IS 'This column and old, new and context are those of the outbox. They are set if a whole change was set aside.';


--
-- Name: COLUMN unrouted.again; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON COLUMN collecta.unrouted.again IS 'route_again() was called for it. A runner routes it within a second or two.';


--
-- Name: waiting_changes; Type: VIEW; Schema: collecta; Owner: collecta_owner
--

CREATE VIEW collecta.waiting_changes AS
 SELECT o.change_id,
    o.version,
    o.operation,
    o.transaction_id,
    o.trigger_depth,
    o.captured_at
   FROM collecta.outbox o
  WHERE (( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes) IS NULL);


ALTER TABLE collecta.waiting_changes OWNER TO collecta_owner;

--
-- Name: VIEW waiting_changes; Type: COMMENT; Schema: collecta; Owner: collecta_owner
--

COMMENT ON VIEW collecta.waiting_changes IS 'Changes in the outbox that are not routed yet, without the contents of the rows. Empty for a login that is restricted to scopes.';


--
-- Name: webhook_deliveries; Type: VIEW; Schema: collecta; Owner: collecta_viewer
--

CREATE VIEW collecta.webhook_deliveries AS
 SELECT a.id,
    a.event_id,
    a.endpoint_id,
    e.module,
    e.event,
    e.record_id,
    a.attempt,
    a.url,
    (a.request_headers)::jsonb AS request_headers,
    e.body AS request_body,
    a.outcome,
    a.response_status,
        CASE
            WHEN (e.event_id IS NOT NULL) THEN (a.response_headers)::jsonb
            ELSE NULL::jsonb
        END AS response_headers,
        CASE
            WHEN (e.event_id IS NOT NULL) THEN a.response_body
            ELSE NULL::text
        END AS response_body,
        CASE
            WHEN (e.event_id IS NOT NULL) THEN a.error
            WHEN (a.error IS NOT NULL) THEN 'hidden'::text
            ELSE NULL::text
        END AS error,
    a.started_at,
    a.finished_at,
    round((EXTRACT(epoch FROM (a.finished_at - a.started_at)) * (1000)::numeric), 3) AS duration_ms,
    a.lookup_ms,
    a.connect_ms,
    a.first_byte_ms,
    a.total_ms,
    a.next_attempt_at,
    a.replay_of,
    e.scope,
    e.sequence,
    e.occurred_at,
    a.routed_at
   FROM (collecta.delivery_attempts a
     LEFT JOIN collecta.events e ON (((e.event_id = a.event_id) AND (e.payload_role = a.payload_role) AND (e.routed_at = a.routed_at))))
  WHERE ( SELECT (collecta.is_walled('webhook_deliveries'::text) OR ((NOT (EXISTS ( SELECT
                   FROM collecta.row_secured_modules))) AND (collecta.visible_scopes(CURRENT_USER) IS NULL))));


ALTER TABLE collecta.webhook_deliveries OWNER TO collecta_viewer;

--
-- Name: VIEW webhook_deliveries; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON VIEW collecta.webhook_deliveries IS 'Every delivery attempt with its event: what was sent, when, and what the receiver answered. For one record: select * from collecta.webhook_deliveries where record_id = ''42'' order by started_at;';


--
-- Name: COLUMN webhook_deliveries.id; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.id IS 'The attempt. replay_delivery(id) sends its event again.';


--
-- Name: COLUMN webhook_deliveries.event_id; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.event_id IS 'The webhook-id header and the payload''s id.';


--
-- Name: COLUMN webhook_deliveries.module; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.module IS 'Null, like everything about the record and the receivers answer, if row security of the modules table applies to you (collecta.row_secured_modules).';


--
-- Name: COLUMN webhook_deliveries.request_body; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.request_body IS 'The exact bytes that were sent, as text.';


--
-- Name: COLUMN webhook_deliveries.outcome; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.outcome IS 'delivered; failed (will be tried again); blocked (the destination is not allowed; will be tried again); exhausted (the last attempt: it was given up, whatever refused it); lost (the runner ended before the answer; does not count as an attempt).';


--
-- Name: COLUMN webhook_deliveries.lookup_ms; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.lookup_ms IS 'How long it took to resolve and check the destination, in milliseconds. Null if the runner did not get that far.';


--
-- Name: COLUMN webhook_deliveries.next_attempt_at; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.next_attempt_at IS 'When it is tried again. Null if it is not.';


--
-- Name: COLUMN webhook_deliveries.replay_of; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.replay_of IS 'The attempt whose event was replayed.';


--
-- Name: COLUMN webhook_deliveries.sequence; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.sequence IS 'The sequence of the payload: it rises in the order in which a records changes happened.';


--
-- Name: COLUMN webhook_deliveries.routed_at; Type: COMMENT; Schema: collecta; Owner: collecta_viewer
--

COMMENT ON COLUMN collecta.webhook_deliveries.routed_at IS 'The partition key. A condition on it limits a query to those days.';


--
-- Name: work_orders; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.work_orders (
    id integer NOT NULL,
    status text,
    custom_data jsonb,
    tenant text,
    note text,
    secret text
);


ALTER TABLE public.work_orders OWNER TO postgres;

--
-- Name: delivery_attempts_20261128; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts ATTACH PARTITION collecta.delivery_attempts_20261128 FOR VALUES FROM ('2026-11-28 00:00:00+00') TO ('2026-11-29 00:00:00+00');


--
-- Name: delivery_attempts_20261129; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts ATTACH PARTITION collecta.delivery_attempts_20261129 FOR VALUES FROM ('2026-11-29 00:00:00+00') TO ('2026-11-30 00:00:00+00');


--
-- Name: delivery_attempts_20261130; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts ATTACH PARTITION collecta.delivery_attempts_20261130 FOR VALUES FROM ('2026-11-30 00:00:00+00') TO ('2026-12-01 00:00:00+00');


--
-- Name: delivery_attempts_20261201; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts ATTACH PARTITION collecta.delivery_attempts_20261201 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2026-12-02 00:00:00+00');


--
-- Name: events_20261128; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events ATTACH PARTITION collecta.events_20261128 FOR VALUES FROM ('2026-11-28 00:00:00+00') TO ('2026-11-29 00:00:00+00');


--
-- Name: events_20261129; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events ATTACH PARTITION collecta.events_20261129 FOR VALUES FROM ('2026-11-29 00:00:00+00') TO ('2026-11-30 00:00:00+00');


--
-- Name: events_20261130; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events ATTACH PARTITION collecta.events_20261130 FOR VALUES FROM ('2026-11-30 00:00:00+00') TO ('2026-12-01 00:00:00+00');


--
-- Name: events_20261201; Type: TABLE ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events ATTACH PARTITION collecta.events_20261201 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2026-12-02 00:00:00+00');


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.alerts (kind, subject, state, sent_state, pending, detail, sent) FROM stdin;
\.


--
-- Data for Name: delivery_attempts_20261128; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_attempts_20261128 (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, request_headers, response_status, response_headers, response_body, error, started_at, finished_at, lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of) FROM stdin;
\.


--
-- Data for Name: delivery_attempts_20261129; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_attempts_20261129 (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, request_headers, response_status, response_headers, response_body, error, started_at, finished_at, lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of) FROM stdin;
\.


--
-- Data for Name: delivery_attempts_20261130; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_attempts_20261130 (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, request_headers, response_status, response_headers, response_body, error, started_at, finished_at, lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of) FROM stdin;
\.


--
-- Data for Name: delivery_attempts_20261201; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_attempts_20261201 (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, request_headers, response_status, response_headers, response_body, error, started_at, finished_at, lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of) FROM stdin;
\.


--
-- Data for Name: delivery_queue; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_queue (delivery_id, change_id, due_at, leased_until, routed_at, record_key, held_since, "position", bytes, attempt, losses, runner, endpoint_id, event_id, payload_role, replay_of) FROM stdin;
\.


--
-- Data for Name: delivery_rollup; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.delivery_rollup (endpoint_id, starts_at, delivered, failed, exhausted, blocked, lost, answers, receipts) FROM stdin;
\.


--
-- Data for Name: endpoint_flow; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.endpoint_flow (endpoint_id, failing_since, held_until, held_at, delivered_since_hold, pace, paced_at, learned_per_second, raised_at, max_per_second, next_slot) FROM stdin;
\.


--
-- Data for Name: endpoint_secrets; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.endpoint_secrets (endpoint_id, secret, previous_secret, previous_until, headers) FROM stdin;
ep_01a222aee9507d4a8facc91dfe76f067	whsec_Z8nX80S+ba+2MuvlqO9WSvPSj5yy2/SkdkUEGRT29TQ=	\N	\N	{}
ep_01a222aee95d7eafa4cb06149b62965e	whsec_5hfrOAX2sIH8AzsoHURLVZDPxlBKdhd/QdQohPmHu54=	\N	\N	{}
ep_01a222aee9647dc793b1eb3e9137d70d	whsec_W3d3/4VA1vx22QKVb9qiRkqbEC0IJvn0eLbWI14KwKM=	\N	\N	{}
\.


--
-- Data for Name: endpoints; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.endpoints (endpoint_id, name, url, events, modules, state, paused_reason, filter, scope, ordered, payload_role, headers, retry_max, retry_base, max_in_flight, after_change_id, created_at) FROM stdin;
ep_01a222aee9507d4a8facc91dfe76f067	all	https://example.com/all	{record_created,record_updated,record_deleted,status_change,custom_data_updated}	\N	active	\N	\N	\N	f		{}	5	00:01:00	50	0	2026-11-28 15:03:38.032393+00
ep_01a222aee95d7eafa4cb06149b62965e	ordered	https://example.com/ordered	{record_updated}	\N	active	\N	($."record"."status" == "done")	\N	t		{}	5	00:01:00	50	0	2026-11-28 15:03:38.032393+00
ep_01a222aee9647dc793b1eb3e9137d70d	paused	https://example.com/paused	{record_deleted}	\N	paused	by request	\N	\N	f		{}	5	00:01:00	50	0	2026-11-28 15:03:38.032393+00
\.


--
-- Data for Name: events_20261128; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.events_20261128 (event_id, payload_role, routed_at, sequence, "position", module, event, record_id, scope, occurred_at, body) FROM stdin;
\.


--
-- Data for Name: events_20261129; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.events_20261129 (event_id, payload_role, routed_at, sequence, "position", module, event, record_id, scope, occurred_at, body) FROM stdin;
\.


--
-- Data for Name: events_20261130; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.events_20261130 (event_id, payload_role, routed_at, sequence, "position", module, event, record_id, scope, occurred_at, body) FROM stdin;
\.


--
-- Data for Name: events_20261201; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.events_20261201 (event_id, payload_role, routed_at, sequence, "position", module, event, record_id, scope, occurred_at, body) FROM stdin;
\.


--
-- Data for Name: inbound_budgets; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_budgets (inbound_endpoint_id, slot, taken_at) FROM stdin;
inb_01a222aee97a72b18da813c4cb443f19	1	-infinity
inb_01a222aee97a72b18da813c4cb443f19	2	-infinity
inb_01a222aee97a72b18da813c4cb443f19	3	-infinity
inb_01a222aee97a72b18da813c4cb443f19	4	-infinity
inb_01a222aee97a72b18da813c4cb443f19	5	-infinity
inb_01a222aee97a72b18da813c4cb443f19	6	-infinity
inb_01a222aee97a72b18da813c4cb443f19	7	-infinity
inb_01a222aee97a72b18da813c4cb443f19	8	-infinity
inb_01a222aee97a72b18da813c4cb443f19	9	-infinity
inb_01a222aee97a72b18da813c4cb443f19	10	-infinity
inb_01a222aee97a72b18da813c4cb443f19	11	-infinity
inb_01a222aee97a72b18da813c4cb443f19	12	-infinity
inb_01a222aee97a72b18da813c4cb443f19	13	-infinity
inb_01a222aee97a72b18da813c4cb443f19	14	-infinity
inb_01a222aee97a72b18da813c4cb443f19	15	-infinity
inb_01a222aee97a72b18da813c4cb443f19	16	-infinity
inb_01a222aee97a72b18da813c4cb443f19	17	-infinity
inb_01a222aee97a72b18da813c4cb443f19	18	-infinity
inb_01a222aee97a72b18da813c4cb443f19	19	-infinity
inb_01a222aee97a72b18da813c4cb443f19	20	-infinity
inb_01a222aee97a72b18da813c4cb443f19	21	-infinity
inb_01a222aee97a72b18da813c4cb443f19	22	-infinity
inb_01a222aee97a72b18da813c4cb443f19	23	-infinity
inb_01a222aee97a72b18da813c4cb443f19	24	-infinity
inb_01a222aee97a72b18da813c4cb443f19	25	-infinity
inb_01a222aee97a72b18da813c4cb443f19	26	-infinity
inb_01a222aee97a72b18da813c4cb443f19	27	-infinity
inb_01a222aee97a72b18da813c4cb443f19	28	-infinity
inb_01a222aee97a72b18da813c4cb443f19	29	-infinity
inb_01a222aee97a72b18da813c4cb443f19	30	-infinity
inb_01a222aee97a72b18da813c4cb443f19	31	-infinity
inb_01a222aee97a72b18da813c4cb443f19	32	-infinity
inb_01a222aee97a72b18da813c4cb443f19	33	-infinity
inb_01a222aee97a72b18da813c4cb443f19	34	-infinity
inb_01a222aee97a72b18da813c4cb443f19	35	-infinity
inb_01a222aee97a72b18da813c4cb443f19	36	-infinity
inb_01a222aee97a72b18da813c4cb443f19	37	-infinity
inb_01a222aee97a72b18da813c4cb443f19	38	-infinity
inb_01a222aee97a72b18da813c4cb443f19	39	-infinity
inb_01a222aee97a72b18da813c4cb443f19	40	-infinity
inb_01a222aee97a72b18da813c4cb443f19	41	-infinity
inb_01a222aee97a72b18da813c4cb443f19	42	-infinity
inb_01a222aee97a72b18da813c4cb443f19	43	-infinity
inb_01a222aee97a72b18da813c4cb443f19	44	-infinity
inb_01a222aee97a72b18da813c4cb443f19	45	-infinity
inb_01a222aee97a72b18da813c4cb443f19	46	-infinity
inb_01a222aee97a72b18da813c4cb443f19	47	-infinity
inb_01a222aee97a72b18da813c4cb443f19	48	-infinity
inb_01a222aee97a72b18da813c4cb443f19	49	-infinity
inb_01a222aee97a72b18da813c4cb443f19	50	-infinity
inb_01a222aee97a72b18da813c4cb443f19	51	-infinity
inb_01a222aee97a72b18da813c4cb443f19	52	-infinity
inb_01a222aee97a72b18da813c4cb443f19	53	-infinity
inb_01a222aee97a72b18da813c4cb443f19	54	-infinity
inb_01a222aee97a72b18da813c4cb443f19	55	-infinity
inb_01a222aee97a72b18da813c4cb443f19	56	-infinity
inb_01a222aee97a72b18da813c4cb443f19	57	-infinity
inb_01a222aee97a72b18da813c4cb443f19	58	-infinity
inb_01a222aee97a72b18da813c4cb443f19	59	-infinity
inb_01a222aee97a72b18da813c4cb443f19	60	-infinity
\.


--
-- Data for Name: inbound_endpoints; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_endpoints (inbound_endpoint_id, module, relation, mapping, mapping_version, match_columns, match_where, sender, require_signature, each, each_alone, max_elements, events, keep_ignored, digest_window, state, rate_limit_per_minute, max_body_bytes, function_number, columns, scalar_columns, writer, written_for, functions_are_current, written_hash, grouped, created_at) FROM stdin;
inb_01a222aee97a72b18da813c4cb443f19	work-orders	public.work_orders	{"$.id": "id", "$.status": "status"}	1	{id}	\N	collecta	false	\N	f	1000	\N	t	\N	active	60	1048576	1	{id,status}	{id,status}	collecta_writer	public.work_orders:1:t:1:id 23 -1,status 25 -1	t	15b7877eafbaf569f6f7e457d957ed3c	t	2026-11-28 15:03:38.032393+00
\.


--
-- Data for Name: inbound_refusals; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_refusals (day, inbound_endpoint_id, status, requests) FROM stdin;
\.


--
-- Data for Name: inbound_requests; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_requests (request_id, inbound_endpoint_id, received_at, state, operation, record_id, reason, column_name, sqlstate, error, attempts, finished_at, mapping_version, key_hash, body_digest, results, body) FROM stdin;
\.


--
-- Data for Name: inbound_secrets; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_secrets (inbound_endpoint_id, token_hash, previous_token_hash, previous_token_until, secret, previous_secret, previous_secret_until) FROM stdin;
inb_01a222aee97a72b18da813c4cb443f19	5fc95d6c718d31ce9b5ae5a7c14b10aa49b56bbd2a3808dd70d665e870e6dd7b	\N	\N	\N	\N	\N
\.


--
-- Data for Name: inbound_senders; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.inbound_senders (sender, about, documentation, signatures, ids, event, ignored_events, handshakes, content_types, form_field, each, shipped) FROM stdin;
collecta	collecta-webhooks itself, and whoever signs as it does	https://www.standardwebhooks.com	[{"id": "header:webhook-id", "in": "header:webhook-signature", "key": "base64", "prefix": "v1,", "signed": "{id}.{timestamp}.{body}", "encoding": "base64", "separator": " ", "timestamp": "header:webhook-timestamp"}, {"in": "header:x-webhook-signature", "prefix": "sha256=", "signed": "{body}"}]	{header:webhook-id}	\N	{}	[]	{json,form}	\N	\N	t
standard-webhooks	Standard Webhooks, also with svix- headers	https://github.com/standard-webhooks/standard-webhooks	[{"id": "header:webhook-id", "in": "header:webhook-signature", "key": "base64", "prefix": "v1,", "signed": "{id}.{timestamp}.{body}", "encoding": "base64", "separator": " ", "timestamp": "header:webhook-timestamp"}, {"id": "header:svix-id", "in": "header:svix-signature", "key": "base64", "prefix": "v1,", "signed": "{id}.{timestamp}.{body}", "encoding": "base64", "separator": " ", "timestamp": "header:svix-timestamp"}]	{header:webhook-id,header:svix-id}	\N	{}	[]	{json,form}	\N	\N	t
stripe	Stripe	https://docs.stripe.com/webhooks/signature	[{"in": "header:stripe-signature", "prefix": "v1=", "signed": "{timestamp}.{body}", "separator": ",", "timestamp": "signature:t="}]	{$.id}	$.type	{}	[]	{json,form}	\N	\N	t
github	GitHub	https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries	[{"in": "header:x-hub-signature-256", "prefix": "sha256=", "signed": "{body}"}]	{header:x-github-delivery}	header:x-github-event	{ping}	[]	{json,form}	payload	\N	t
gitlab	GitLab, with a signing token or a secret token	https://docs.gitlab.com/user/project/integrations/webhooks/	[{"id": "header:webhook-id", "in": "header:webhook-signature", "key": "base64", "prefix": "v1,", "signed": "{id}.{timestamp}.{body}", "encoding": "base64", "separator": " ", "timestamp": "header:webhook-timestamp"}, {"in": "header:x-gitlab-token", "encoding": "plain"}]	{header:webhook-id,header:idempotency-key}	header:x-gitlab-event	{}	[]	{json,form}	\N	\N	t
gitea	Gitea and Forgejo	https://forgejo.org/docs/latest/user/webhooks/	[{"in": "header:x-forgejo-signature", "signed": "{body}"}, {"in": "header:x-gitea-signature", "signed": "{body}"}]	{header:x-forgejo-delivery,header:x-gitea-delivery}	header:x-gitea-event	{}	[]	{json,form}	payload	\N	t
shopify	Shopify	https://shopify.dev/docs/apps/build/webhooks/verify-deliveries	[{"in": "header:x-shopify-hmac-sha256", "signed": "{body}", "encoding": "base64"}]	{header:x-shopify-webhook-id}	header:x-shopify-topic	{}	[]	{json,form}	\N	\N	t
slack	Slack Events API	https://docs.slack.dev/authentication/verifying-requests-from-slack	[{"in": "header:x-slack-signature", "prefix": "v0=", "signed": "v0:{timestamp}:{body}", "timestamp": "header:x-slack-request-timestamp"}]	{$.event_id}	$.event.type	{}	[{"when": {"$.type": "url_verification"}, "answer": "{$.challenge}", "signed": true}]	{json,form}	\N	\N	t
twilio	Twilio	https://www.twilio.com/docs/usage/webhooks/webhooks-security	[{"in": "header:x-twilio-signature", "hash": "sha1", "signed": "{url}{form}", "encoding": "base64"}]	{header:i-twilio-idempotency-token}	\N	{}	[]	{json,form}	\N	\N	t
mailgun	Mailgun, which signs a token and a time but not the rest of the body	https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks	[{"id": "$.signature.token", "in": "$.signature.signature", "signed": "{timestamp}{id}", "timestamp": "$.signature.timestamp"}]	{$.signature.token}	$['event-data'].event	{}	[]	{json,form}	\N	\N	t
pagerduty	PagerDuty v3	https://developer.pagerduty.com/docs/verifying-webhook-signatures	[{"in": "header:x-pagerduty-signature", "prefix": "v1=", "signed": "{body}", "separator": ","}]	{$.event.id}	$.event.event_type	{pagey.ping}	[]	{json,form}	\N	\N	t
jira	Jira, webhooks that an administrator made	https://developer.atlassian.com/cloud/jira/platform/webhooks/	[{"in": "header:x-hub-signature", "prefix": "sha256=", "signed": "{body}"}]	{header:x-atlassian-webhook-identifier}	$.webhookEvent	{}	[]	{json,form}	\N	\N	t
typeform	Typeform	https://www.typeform.com/developers/webhooks/secure-your-webhooks/	[{"in": "header:typeform-signature", "prefix": "sha256=", "signed": "{body}", "encoding": "base64"}]	{$.event_id}	$.event_type	{}	[]	{json,form}	\N	\N	t
discourse	Discourse	https://meta.discourse.org/t/49045	[{"in": "header:x-discourse-event-signature", "prefix": "sha256=", "signed": "{body}"}]	{header:x-discourse-event-id}	header:x-discourse-event	{ping}	[]	{json,form}	\N	\N	t
meta	Meta: WhatsApp, Messenger, Instagram	https://developers.facebook.com/docs/graph-api/webhooks/getting-started	[{"in": "header:x-hub-signature-256", "prefix": "sha256=", "signed": "{body}"}]	{}	\N	{}	[{"when": {"query:hub.mode": "subscribe", "query:hub.verify_token": "{token}"}, "answer": "{query:hub.challenge}", "method": "GET"}]	{json,form}	\N	$.entry	t
microsoft-graph	Microsoft Graph; the secret is the clientState	https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks	[{"in": "$.value[*].clientState", "encoding": "plain"}]	{}	\N	{}	[{"when": {"query:validationToken": true}, "answer": "{query:validationToken}"}]	{json,form}	\N	$.value	t
amazon-sns	Amazon SNS; certificate signatures are not checked, only the token in the URL	https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html	[]	{header:x-amz-sns-message-id}	header:x-amz-sns-message-type	{SubscriptionConfirmation,UnsubscribeConfirmation}	[]	{json,form,text}	\N	\N	t
zapier	Zapier, which signs nothing: only the token in the URL	https://help.zapier.com/hc/en-us/articles/8496326446989	[]	{}	\N	{}	[]	{json,form}	\N	\N	t
\.


--
-- Data for Name: installation; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.installation (singleton, system_identifier, database_oid, branch, environment, delivers, since) FROM stdin;
t	7713238207261058246	5	\N	\N	t	2026-11-28 15:03:37.697424+00
\.


--
-- Data for Name: migrations; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.migrations (filename, hash, previous_hash, applied_at) FROM stdin;
000001-install.sql	sha1:eac230193feed47e3a6bb21d2a925f89efe622b3	\N	2026-11-28 15:03:37.697424+00
\.


--
-- Data for Name: module_tables; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.module_tables (slug, relation, named, row_secured) FROM stdin;
work-orders	public.work_orders	public.work_orders	f
\.


--
-- Data for Name: module_versions; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.module_versions (version, module_id, slug, relation, key_columns, key_is_named, status_column, custom_data_column, scope_column, exclude_columns, ignore_columns, on_truncate, column_numbers, database, made_at) FROM stdin;
1	1	work-orders	public.work_orders	{id}	f	status	custom_data	tenant	{secret}	{note}	records	{"id": 1, "note": 5, "secret": 6, "status": 2, "tenant": 4, "custom_data": 3}	7713238207261058246/5	2026-11-28 15:03:38.032393+00
\.


--
-- Data for Name: modules; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.modules (module_id, slug, relation, attached_as, current_version, written_for, written_hash, attached_at) FROM stdin;
1	work-orders	public.work_orders	public.work_orders	1	993bb652245b6f723c8123b7149a8166	{"row": "78efe22016804712db2b37e3ffe7c83a", "delete": "b9693b91e02ede6f78151b38c45261ac", "insert": "ca7c642bfb7610007162da49cf1558d5", "update": "3be27202ed2929b20d87b7d0d6fbd693", "truncate": "87e31c8d95f6edf7097fc0065b36fbeb"}	2026-11-28 15:03:38.032393+00
\.


--
-- Data for Name: muted_changes; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.muted_changes (change_id, module, operation, records, transaction_id, context, captured_at) FROM stdin;
\.


--
-- Data for Name: observation; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.observation (singleton, counted_until, folded_until) FROM stdin;
t	2026-11-28 15:03:37.697424+00	2026-11-28 15:00:00+00
\.


--
-- Data for Name: operator_actions; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.operator_actions (action_id, done_at, done_by, login, statement, touched) FROM stdin;
\.


--
-- Data for Name: outbox; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.outbox (change_id, version, operation, old, new, transaction_id, trigger_depth, captured_at, context, traceparent) FROM stdin;
2	1	I	\N	{"id":1,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.126957+00	\N	\N
4	1	I	\N	{"id":2,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127117+00	\N	\N
6	1	I	\N	{"id":3,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127137+00	\N	\N
8	1	I	\N	{"id":4,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127152+00	\N	\N
10	1	I	\N	{"id":5,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127169+00	\N	\N
12	1	I	\N	{"id":6,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127184+00	\N	\N
14	1	I	\N	{"id":7,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127198+00	\N	\N
16	1	I	\N	{"id":8,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127212+00	\N	\N
18	1	I	\N	{"id":9,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127226+00	\N	\N
20	1	I	\N	{"id":10,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127241+00	\N	\N
22	1	I	\N	{"id":11,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127255+00	\N	\N
24	1	I	\N	{"id":12,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127268+00	\N	\N
26	1	I	\N	{"id":13,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127282+00	\N	\N
28	1	I	\N	{"id":14,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127296+00	\N	\N
30	1	I	\N	{"id":15,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127309+00	\N	\N
32	1	I	\N	{"id":16,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127322+00	\N	\N
34	1	I	\N	{"id":17,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127336+00	\N	\N
36	1	I	\N	{"id":18,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.12735+00	\N	\N
38	1	I	\N	{"id":19,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127364+00	\N	\N
40	1	I	\N	{"id":20,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.127377+00	\N	\N
42	1	U	{"id":2,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":2,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
44	1	U	{"id":4,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":4,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
46	1	U	{"id":6,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":6,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
48	1	U	{"id":8,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":8,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
50	1	U	{"id":10,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":10,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
52	1	U	{"id":12,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":12,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
54	1	U	{"id":14,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":14,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
56	1	U	{"id":16,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":16,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
58	1	U	{"id":18,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":18,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
60	1	U	{"id":20,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	{"id":20,"status":"done","custom_data":{},"tenant":"eu","note":"note"}	745	1	2026-11-28 15:03:38.128529+00	\N	\N
62	1	D	{"id":3,"status":"open","custom_data":{},"tenant":"eu","note":"note"}	\N	745	1	2026-11-28 15:03:38.130646+00	\N	\N
\.


--
-- Data for Name: reorderings; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.reorderings (module_id, since, ended_in) FROM stdin;
\.


--
-- Data for Name: restricted_logins; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.restricted_logins (login, login_oid, database, scopes, restricted_at) FROM stdin;
\.


--
-- Data for Name: routing_trouble; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.routing_trouble (singleton, since, seen_at, sqlstate, reason) FROM stdin;
\.


--
-- Data for Name: runners; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.runners (runner, since, missing_since) FROM stdin;
\.


--
-- Data for Name: settings; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.settings (singleton, retention, rollup_retention, alert_interval, lease, max_record_bytes, max_truncate_records, pause_after, notify) FROM stdin;
t	30 days	90 days	00:10:00	00:01:00	1000000	10000	5 days	\N
\.


--
-- Data for Name: subscriptions; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.subscriptions (module_id, event, endpoint_id, scope, after_change_id) FROM stdin;
1	status_change	ep_01a222aee9507d4a8facc91dfe76f067	\N	0
1	custom_data_updated	ep_01a222aee9507d4a8facc91dfe76f067	\N	0
1	record_created	ep_01a222aee9507d4a8facc91dfe76f067	\N	0
1	record_deleted	ep_01a222aee9507d4a8facc91dfe76f067	\N	0
1	record_updated	ep_01a222aee9507d4a8facc91dfe76f067	\N	0
1	record_updated	ep_01a222aee95d7eafa4cb06149b62965e	\N	0
1	record_deleted	ep_01a222aee9647dc793b1eb3e9137d70d	\N	0
\.


--
-- Data for Name: unrouted; Type: TABLE DATA; Schema: collecta; Owner: collecta_owner
--

COPY collecta.unrouted (change_id, "position", endpoint_id, module, record_id, record_key, event_id, payload_role, routed_at, version, operation, old, new, transaction_id, trigger_depth, captured_at, context, reason, set_aside_at, again) FROM stdin;
\.


--
-- Data for Name: work_orders; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.work_orders (id, status, custom_data, tenant, note, secret) FROM stdin;
1	open	{}	eu	note	secret
5	open	{}	eu	note	secret
7	open	{}	eu	note	secret
9	open	{}	eu	note	secret
11	open	{}	eu	note	secret
13	open	{}	eu	note	secret
15	open	{}	eu	note	secret
17	open	{}	eu	note	secret
19	open	{}	eu	note	secret
2	done	{}	eu	note	secret
4	done	{}	eu	note	secret
6	done	{}	eu	note	secret
8	done	{}	eu	note	secret
10	done	{}	eu	note	secret
12	done	{}	eu	note	secret
14	done	{}	eu	note	secret
16	done	{}	eu	note	secret
18	done	{}	eu	note	secret
20	done	{}	eu	note	secret
\.


--
-- Name: delivery_queue_delivery_id_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.delivery_queue_delivery_id_seq', 1, false);


--
-- Name: inbound_endpoints_function_number_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.inbound_endpoints_function_number_seq', 1, true);


--
-- Name: module_versions_version_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.module_versions_version_seq', 1, true);


--
-- Name: modules_module_id_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.modules_module_id_seq', 1, true);


--
-- Name: operator_actions_action_id_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.operator_actions_action_id_seq', 1, false);


--
-- Name: outbox_change_id_seq; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.outbox_change_id_seq', 62, true);


--
-- Name: runner_numbers; Type: SEQUENCE SET; Schema: collecta; Owner: collecta_owner
--

SELECT pg_catalog.setval('collecta.runner_numbers', 1, false);


--
-- Name: alerts alerts_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (kind, subject);


--
-- Name: delivery_attempts delivery_attempts_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts
    ADD CONSTRAINT delivery_attempts_pkey PRIMARY KEY (id, routed_at);


--
-- Name: delivery_attempts_20261128 delivery_attempts_20261128_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts_20261128
    ADD CONSTRAINT delivery_attempts_20261128_pkey PRIMARY KEY (id, routed_at);


--
-- Name: delivery_attempts_20261129 delivery_attempts_20261129_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts_20261129
    ADD CONSTRAINT delivery_attempts_20261129_pkey PRIMARY KEY (id, routed_at);


--
-- Name: delivery_attempts_20261130 delivery_attempts_20261130_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts_20261130
    ADD CONSTRAINT delivery_attempts_20261130_pkey PRIMARY KEY (id, routed_at);


--
-- Name: delivery_attempts_20261201 delivery_attempts_20261201_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_attempts_20261201
    ADD CONSTRAINT delivery_attempts_20261201_pkey PRIMARY KEY (id, routed_at);


--
-- Name: delivery_queue delivery_queue_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_queue
    ADD CONSTRAINT delivery_queue_pkey PRIMARY KEY (delivery_id);


--
-- Name: delivery_rollup delivery_rollup_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.delivery_rollup
    ADD CONSTRAINT delivery_rollup_pkey PRIMARY KEY (endpoint_id, starts_at);


--
-- Name: endpoint_flow endpoint_flow_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.endpoint_flow
    ADD CONSTRAINT endpoint_flow_pkey PRIMARY KEY (endpoint_id);


--
-- Name: endpoint_secrets endpoint_secrets_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.endpoint_secrets
    ADD CONSTRAINT endpoint_secrets_pkey PRIMARY KEY (endpoint_id);


--
-- Name: endpoints endpoints_name_is_unique; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.endpoints
    ADD CONSTRAINT endpoints_name_is_unique UNIQUE (name);


--
-- Name: endpoints endpoints_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.endpoints
    ADD CONSTRAINT endpoints_pkey PRIMARY KEY (endpoint_id);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id, payload_role, routed_at);


--
-- Name: events_20261128 events_20261128_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events_20261128
    ADD CONSTRAINT events_20261128_pkey PRIMARY KEY (event_id, payload_role, routed_at);


--
-- Name: events_20261129 events_20261129_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events_20261129
    ADD CONSTRAINT events_20261129_pkey PRIMARY KEY (event_id, payload_role, routed_at);


--
-- Name: events_20261130 events_20261130_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events_20261130
    ADD CONSTRAINT events_20261130_pkey PRIMARY KEY (event_id, payload_role, routed_at);


--
-- Name: events_20261201 events_20261201_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.events_20261201
    ADD CONSTRAINT events_20261201_pkey PRIMARY KEY (event_id, payload_role, routed_at);


--
-- Name: inbound_budgets inbound_budgets_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_budgets
    ADD CONSTRAINT inbound_budgets_pkey PRIMARY KEY (inbound_endpoint_id, slot);


--
-- Name: inbound_endpoints inbound_endpoints_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_endpoints
    ADD CONSTRAINT inbound_endpoints_pkey PRIMARY KEY (inbound_endpoint_id);


--
-- Name: inbound_refusals inbound_refusals_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_refusals
    ADD CONSTRAINT inbound_refusals_pkey PRIMARY KEY (day, inbound_endpoint_id, status);


--
-- Name: inbound_requests inbound_requests_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_requests
    ADD CONSTRAINT inbound_requests_pkey PRIMARY KEY (request_id);


--
-- Name: inbound_secrets inbound_secrets_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_secrets
    ADD CONSTRAINT inbound_secrets_pkey PRIMARY KEY (inbound_endpoint_id);


--
-- Name: inbound_secrets inbound_secrets_token_is_unique; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_secrets
    ADD CONSTRAINT inbound_secrets_token_is_unique UNIQUE (token_hash);


--
-- Name: inbound_senders inbound_senders_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_senders
    ADD CONSTRAINT inbound_senders_pkey PRIMARY KEY (sender);


--
-- Name: installation installation_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (singleton);


--
-- Name: migrations migrations_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (filename);


--
-- Name: module_tables module_tables_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.module_tables
    ADD CONSTRAINT module_tables_pkey PRIMARY KEY (slug, relation);


--
-- Name: module_versions module_versions_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.module_versions
    ADD CONSTRAINT module_versions_pkey PRIMARY KEY (version);


--
-- Name: modules modules_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.modules
    ADD CONSTRAINT modules_pkey PRIMARY KEY (module_id);


--
-- Name: modules modules_relation_is_unique; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.modules
    ADD CONSTRAINT modules_relation_is_unique UNIQUE (relation);


--
-- Name: modules modules_slug_is_unique; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.modules
    ADD CONSTRAINT modules_slug_is_unique UNIQUE (slug);


--
-- Name: muted_changes muted_changes_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.muted_changes
    ADD CONSTRAINT muted_changes_pkey PRIMARY KEY (change_id);


--
-- Name: observation observation_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.observation
    ADD CONSTRAINT observation_pkey PRIMARY KEY (singleton);


--
-- Name: operator_actions operator_actions_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.operator_actions
    ADD CONSTRAINT operator_actions_pkey PRIMARY KEY (action_id);


--
-- Name: outbox outbox_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (change_id);


--
-- Name: reorderings reorderings_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.reorderings
    ADD CONSTRAINT reorderings_pkey PRIMARY KEY (module_id);


--
-- Name: restricted_logins restricted_logins_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.restricted_logins
    ADD CONSTRAINT restricted_logins_pkey PRIMARY KEY (login);


--
-- Name: routing_trouble routing_trouble_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.routing_trouble
    ADD CONSTRAINT routing_trouble_pkey PRIMARY KEY (singleton);


--
-- Name: runners runners_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.runners
    ADD CONSTRAINT runners_pkey PRIMARY KEY (runner);


--
-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (singleton);


--
-- Name: subscriptions subscriptions_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (module_id, event, endpoint_id);


--
-- Name: unrouted unrouted_pkey; Type: CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.unrouted
    ADD CONSTRAINT unrouted_pkey PRIMARY KEY (change_id, "position", endpoint_id);


--
-- Name: work_orders work_orders_pkey; Type: CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.work_orders
    ADD CONSTRAINT work_orders_pkey PRIMARY KEY (id);


--
-- Name: delivery_attempts_by_endpoint; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_by_endpoint ON ONLY collecta.delivery_attempts USING btree (endpoint_id, id);


--
-- Name: delivery_attempts_20261128_endpoint_id_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_endpoint_id_id_idx ON collecta.delivery_attempts_20261128 USING btree (endpoint_id, id);


--
-- Name: delivery_attempts_not_delivered_by_endpoint; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_not_delivered_by_endpoint ON ONLY collecta.delivery_attempts USING btree (endpoint_id, id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261128_endpoint_id_id_idx1; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_endpoint_id_id_idx1 ON collecta.delivery_attempts_20261128 USING btree (endpoint_id, id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_by_event; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_by_event ON ONLY collecta.delivery_attempts USING btree (event_id);


--
-- Name: delivery_attempts_20261128_event_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_event_id_idx ON collecta.delivery_attempts_20261128 USING btree (event_id);


--
-- Name: delivery_attempts_exhausted; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_exhausted ON ONLY collecta.delivery_attempts USING btree (id, endpoint_id) WHERE (outcome = 'exhausted'::text);


--
-- Name: delivery_attempts_20261128_id_endpoint_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_id_endpoint_id_idx ON collecta.delivery_attempts_20261128 USING btree (id, endpoint_id) WHERE (outcome = 'exhausted'::text);


--
-- Name: delivery_attempts_not_delivered; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_not_delivered ON ONLY collecta.delivery_attempts USING btree (id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261128_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_id_idx ON collecta.delivery_attempts_20261128 USING btree (id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_by_time; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_by_time ON ONLY collecta.delivery_attempts USING brin (started_at);


--
-- Name: delivery_attempts_20261128_started_at_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261128_started_at_idx ON collecta.delivery_attempts_20261128 USING brin (started_at);


--
-- Name: delivery_attempts_20261129_endpoint_id_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_endpoint_id_id_idx ON collecta.delivery_attempts_20261129 USING btree (endpoint_id, id);


--
-- Name: delivery_attempts_20261129_endpoint_id_id_idx1; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_endpoint_id_id_idx1 ON collecta.delivery_attempts_20261129 USING btree (endpoint_id, id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261129_event_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_event_id_idx ON collecta.delivery_attempts_20261129 USING btree (event_id);


--
-- Name: delivery_attempts_20261129_id_endpoint_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_id_endpoint_id_idx ON collecta.delivery_attempts_20261129 USING btree (id, endpoint_id) WHERE (outcome = 'exhausted'::text);


--
-- Name: delivery_attempts_20261129_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_id_idx ON collecta.delivery_attempts_20261129 USING btree (id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261129_started_at_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261129_started_at_idx ON collecta.delivery_attempts_20261129 USING brin (started_at);


--
-- Name: delivery_attempts_20261130_endpoint_id_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_endpoint_id_id_idx ON collecta.delivery_attempts_20261130 USING btree (endpoint_id, id);


--
-- Name: delivery_attempts_20261130_endpoint_id_id_idx1; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_endpoint_id_id_idx1 ON collecta.delivery_attempts_20261130 USING btree (endpoint_id, id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261130_event_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_event_id_idx ON collecta.delivery_attempts_20261130 USING btree (event_id);


--
-- Name: delivery_attempts_20261130_id_endpoint_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_id_endpoint_id_idx ON collecta.delivery_attempts_20261130 USING btree (id, endpoint_id) WHERE (outcome = 'exhausted'::text);


--
-- Name: delivery_attempts_20261130_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_id_idx ON collecta.delivery_attempts_20261130 USING btree (id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261130_started_at_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261130_started_at_idx ON collecta.delivery_attempts_20261130 USING brin (started_at);


--
-- Name: delivery_attempts_20261201_endpoint_id_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_endpoint_id_id_idx ON collecta.delivery_attempts_20261201 USING btree (endpoint_id, id);


--
-- Name: delivery_attempts_20261201_endpoint_id_id_idx1; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_endpoint_id_id_idx1 ON collecta.delivery_attempts_20261201 USING btree (endpoint_id, id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261201_event_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_event_id_idx ON collecta.delivery_attempts_20261201 USING btree (event_id);


--
-- Name: delivery_attempts_20261201_id_endpoint_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_id_endpoint_id_idx ON collecta.delivery_attempts_20261201 USING btree (id, endpoint_id) WHERE (outcome = 'exhausted'::text);


--
-- Name: delivery_attempts_20261201_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_id_idx ON collecta.delivery_attempts_20261201 USING btree (id) WHERE (outcome <> 'delivered'::text);


--
-- Name: delivery_attempts_20261201_started_at_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_attempts_20261201_started_at_idx ON collecta.delivery_attempts_20261201 USING brin (started_at);


--
-- Name: delivery_queue_by_due; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_queue_by_due ON collecta.delivery_queue USING btree (endpoint_id, due_at, change_id, "position");


--
-- Name: delivery_queue_by_record; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_queue_by_record ON collecta.delivery_queue USING btree (endpoint_id, record_key, change_id, "position") WHERE (record_key IS NOT NULL);


--
-- Name: delivery_queue_replays; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_queue_replays ON collecta.delivery_queue USING btree (event_id, endpoint_id) WHERE (replay_of IS NOT NULL);


--
-- Name: delivery_rollup_by_time; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX delivery_rollup_by_time ON collecta.delivery_rollup USING btree (starts_at);


--
-- Name: endpoints_in_order; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX endpoints_in_order ON collecta.endpoints USING btree (endpoint_id) WHERE ordered;


--
-- Name: endpoints_with_filter; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX endpoints_with_filter ON collecta.endpoints USING btree (endpoint_id) WHERE (filter IS NOT NULL);


--
-- Name: events_by_record; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX events_by_record ON ONLY collecta.events USING hash (record_id);


--
-- Name: events_20261128_record_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX events_20261128_record_id_idx ON collecta.events_20261128 USING hash (record_id);


--
-- Name: events_20261129_record_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX events_20261129_record_id_idx ON collecta.events_20261129 USING hash (record_id);


--
-- Name: events_20261130_record_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX events_20261130_record_id_idx ON collecta.events_20261130 USING hash (record_id);


--
-- Name: events_20261201_record_id_idx; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX events_20261201_record_id_idx ON collecta.events_20261201 USING hash (record_id);


--
-- Name: inbound_requests_by_digest; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX inbound_requests_by_digest ON collecta.inbound_requests USING btree (body_digest, inbound_endpoint_id, received_at) WHERE ((state = ANY (ARRAY['accepted'::collecta.inbound_request_state, 'partial'::collecta.inbound_request_state, 'ignored'::collecta.inbound_request_state])) AND (body_digest IS NOT NULL));


--
-- Name: inbound_requests_by_time; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX inbound_requests_by_time ON collecta.inbound_requests USING brin (received_at);


--
-- Name: inbound_requests_failed; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX inbound_requests_failed ON collecta.inbound_requests USING btree (inbound_endpoint_id, received_at) WHERE (state = 'failed'::collecta.inbound_request_state);


--
-- Name: inbound_requests_key_is_used_once; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE UNIQUE INDEX inbound_requests_key_is_used_once ON collecta.inbound_requests USING btree (key_hash, inbound_endpoint_id) WHERE ((state = ANY (ARRAY['accepted'::collecta.inbound_request_state, 'partial'::collecta.inbound_request_state, 'ignored'::collecta.inbound_request_state])) AND (key_hash IS NOT NULL));


--
-- Name: inbound_requests_to_retry; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX inbound_requests_to_retry ON collecta.inbound_requests USING btree (received_at) WHERE (state = 'retry'::collecta.inbound_request_state);


--
-- Name: inbound_secrets_by_previous_token; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX inbound_secrets_by_previous_token ON collecta.inbound_secrets USING btree (previous_token_hash) WHERE (previous_token_hash IS NOT NULL);


--
-- Name: subscriptions_by_scope; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX subscriptions_by_scope ON collecta.subscriptions USING btree (module_id, event, scope);


--
-- Name: unrouted_again; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX unrouted_again ON collecta.unrouted USING btree (change_id) WHERE again;


--
-- Name: unrouted_by_record; Type: INDEX; Schema: collecta; Owner: collecta_owner
--

CREATE INDEX unrouted_by_record ON collecta.unrouted USING btree (record_key) WHERE (record_key IS NOT NULL);


--
-- Name: delivery_attempts_20261128_endpoint_id_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261128_endpoint_id_id_idx;


--
-- Name: delivery_attempts_20261128_endpoint_id_id_idx1; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261128_endpoint_id_id_idx1;


--
-- Name: delivery_attempts_20261128_event_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_event ATTACH PARTITION collecta.delivery_attempts_20261128_event_id_idx;


--
-- Name: delivery_attempts_20261128_id_endpoint_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_exhausted ATTACH PARTITION collecta.delivery_attempts_20261128_id_endpoint_id_idx;


--
-- Name: delivery_attempts_20261128_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered ATTACH PARTITION collecta.delivery_attempts_20261128_id_idx;


--
-- Name: delivery_attempts_20261128_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_pkey ATTACH PARTITION collecta.delivery_attempts_20261128_pkey;


--
-- Name: delivery_attempts_20261128_started_at_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_time ATTACH PARTITION collecta.delivery_attempts_20261128_started_at_idx;


--
-- Name: delivery_attempts_20261129_endpoint_id_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261129_endpoint_id_id_idx;


--
-- Name: delivery_attempts_20261129_endpoint_id_id_idx1; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261129_endpoint_id_id_idx1;


--
-- Name: delivery_attempts_20261129_event_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_event ATTACH PARTITION collecta.delivery_attempts_20261129_event_id_idx;


--
-- Name: delivery_attempts_20261129_id_endpoint_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_exhausted ATTACH PARTITION collecta.delivery_attempts_20261129_id_endpoint_id_idx;


--
-- Name: delivery_attempts_20261129_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered ATTACH PARTITION collecta.delivery_attempts_20261129_id_idx;


--
-- Name: delivery_attempts_20261129_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_pkey ATTACH PARTITION collecta.delivery_attempts_20261129_pkey;


--
-- Name: delivery_attempts_20261129_started_at_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_time ATTACH PARTITION collecta.delivery_attempts_20261129_started_at_idx;


--
-- Name: delivery_attempts_20261130_endpoint_id_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261130_endpoint_id_id_idx;


--
-- Name: delivery_attempts_20261130_endpoint_id_id_idx1; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261130_endpoint_id_id_idx1;


--
-- Name: delivery_attempts_20261130_event_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_event ATTACH PARTITION collecta.delivery_attempts_20261130_event_id_idx;


--
-- Name: delivery_attempts_20261130_id_endpoint_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_exhausted ATTACH PARTITION collecta.delivery_attempts_20261130_id_endpoint_id_idx;


--
-- Name: delivery_attempts_20261130_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered ATTACH PARTITION collecta.delivery_attempts_20261130_id_idx;


--
-- Name: delivery_attempts_20261130_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_pkey ATTACH PARTITION collecta.delivery_attempts_20261130_pkey;


--
-- Name: delivery_attempts_20261130_started_at_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_time ATTACH PARTITION collecta.delivery_attempts_20261130_started_at_idx;


--
-- Name: delivery_attempts_20261201_endpoint_id_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261201_endpoint_id_id_idx;


--
-- Name: delivery_attempts_20261201_endpoint_id_id_idx1; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered_by_endpoint ATTACH PARTITION collecta.delivery_attempts_20261201_endpoint_id_id_idx1;


--
-- Name: delivery_attempts_20261201_event_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_event ATTACH PARTITION collecta.delivery_attempts_20261201_event_id_idx;


--
-- Name: delivery_attempts_20261201_id_endpoint_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_exhausted ATTACH PARTITION collecta.delivery_attempts_20261201_id_endpoint_id_idx;


--
-- Name: delivery_attempts_20261201_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_not_delivered ATTACH PARTITION collecta.delivery_attempts_20261201_id_idx;


--
-- Name: delivery_attempts_20261201_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_pkey ATTACH PARTITION collecta.delivery_attempts_20261201_pkey;


--
-- Name: delivery_attempts_20261201_started_at_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.delivery_attempts_by_time ATTACH PARTITION collecta.delivery_attempts_20261201_started_at_idx;


--
-- Name: events_20261128_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_pkey ATTACH PARTITION collecta.events_20261128_pkey;


--
-- Name: events_20261128_record_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_by_record ATTACH PARTITION collecta.events_20261128_record_id_idx;


--
-- Name: events_20261129_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_pkey ATTACH PARTITION collecta.events_20261129_pkey;


--
-- Name: events_20261129_record_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_by_record ATTACH PARTITION collecta.events_20261129_record_id_idx;


--
-- Name: events_20261130_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_pkey ATTACH PARTITION collecta.events_20261130_pkey;


--
-- Name: events_20261130_record_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_by_record ATTACH PARTITION collecta.events_20261130_record_id_idx;


--
-- Name: events_20261201_pkey; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_pkey ATTACH PARTITION collecta.events_20261201_pkey;


--
-- Name: events_20261201_record_id_idx; Type: INDEX ATTACH; Schema: collecta; Owner: collecta_owner
--

ALTER INDEX collecta.events_by_record ATTACH PARTITION collecta.events_20261201_record_id_idx;


--
-- Name: inbound_senders collecta_check_sender; Type: TRIGGER; Schema: collecta; Owner: collecta_owner
--

CREATE TRIGGER collecta_check_sender BEFORE INSERT OR UPDATE ON collecta.inbound_senders FOR EACH ROW EXECUTE FUNCTION collecta.check_inbound_sender();


--
-- Name: work_orders collecta_capture_delete; Type: TRIGGER; Schema: public; Owner: postgres
--

CREATE TRIGGER collecta_capture_delete AFTER DELETE ON public.work_orders REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION collecta_modules.capture_1_delete();


--
-- Name: work_orders collecta_capture_insert; Type: TRIGGER; Schema: public; Owner: postgres
--

CREATE TRIGGER collecta_capture_insert AFTER INSERT ON public.work_orders REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION collecta_modules.capture_1_insert();


--
-- Name: work_orders collecta_capture_truncate; Type: TRIGGER; Schema: public; Owner: postgres
--

CREATE TRIGGER collecta_capture_truncate BEFORE TRUNCATE ON public.work_orders FOR EACH STATEMENT EXECUTE FUNCTION collecta_modules.capture_1_truncate();


--
-- Name: work_orders collecta_capture_update; Type: TRIGGER; Schema: public; Owner: postgres
--

CREATE TRIGGER collecta_capture_update AFTER UPDATE ON public.work_orders REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION collecta_modules.capture_1_update();


--
-- Name: endpoint_secrets endpoint_secrets_belong_to_an_endpoint; Type: FK CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.endpoint_secrets
    ADD CONSTRAINT endpoint_secrets_belong_to_an_endpoint FOREIGN KEY (endpoint_id) REFERENCES collecta.endpoints(endpoint_id) ON DELETE CASCADE;


--
-- Name: inbound_budgets inbound_budgets_belong_to_an_endpoint; Type: FK CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_budgets
    ADD CONSTRAINT inbound_budgets_belong_to_an_endpoint FOREIGN KEY (inbound_endpoint_id) REFERENCES collecta.inbound_endpoints(inbound_endpoint_id) ON DELETE CASCADE;


--
-- Name: inbound_endpoints inbound_endpoints_sender_is_known; Type: FK CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_endpoints
    ADD CONSTRAINT inbound_endpoints_sender_is_known FOREIGN KEY (sender) REFERENCES collecta.inbound_senders(sender);


--
-- Name: inbound_secrets inbound_secrets_belong_to_an_endpoint; Type: FK CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.inbound_secrets
    ADD CONSTRAINT inbound_secrets_belong_to_an_endpoint FOREIGN KEY (inbound_endpoint_id) REFERENCES collecta.inbound_endpoints(inbound_endpoint_id) ON DELETE CASCADE;


--
-- Name: subscriptions subscriptions_belong_to_an_endpoint; Type: FK CONSTRAINT; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE ONLY collecta.subscriptions
    ADD CONSTRAINT subscriptions_belong_to_an_endpoint FOREIGN KEY (endpoint_id) REFERENCES collecta.endpoints(endpoint_id) ON DELETE CASCADE;


--
-- Name: alerts; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.alerts ENABLE ROW LEVEL SECURITY;

--
-- Name: muted_changes changes_of_row_secured_modules_are_hidden; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY changes_of_row_secured_modules_are_hidden ON collecta.muted_changes FOR SELECT USING ((
CASE
    WHEN (module = ANY (ARRAY( SELECT m.slug
       FROM collecta.row_secured_modules m))) THEN NULL::boolean
    ELSE true
END IS NOT NULL));


--
-- Name: unrouted changes_of_row_secured_modules_are_hidden; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY changes_of_row_secured_modules_are_hidden ON collecta.unrouted FOR SELECT USING ((
CASE
    WHEN (module = ANY (ARRAY( SELECT m.slug
       FROM collecta.row_secured_modules m))) THEN NULL::boolean
    ELSE true
END IS NOT NULL));


--
-- Name: delivery_attempts; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.delivery_attempts ENABLE ROW LEVEL SECURITY;

--
-- Name: delivery_queue; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.delivery_queue ENABLE ROW LEVEL SECURITY;

--
-- Name: delivery_rollup; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.delivery_rollup ENABLE ROW LEVEL SECURITY;

--
-- Name: endpoint_flow; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.endpoint_flow ENABLE ROW LEVEL SECURITY;

--
-- Name: endpoints; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.endpoints ENABLE ROW LEVEL SECURITY;

--
-- Name: events; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.events ENABLE ROW LEVEL SECURITY;

--
-- Name: events events_of_row_secured_modules_are_hidden; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY events_of_row_secured_modules_are_hidden ON collecta.events FOR SELECT USING ((
CASE
    WHEN (module = ANY (ARRAY( SELECT m.slug
       FROM collecta.row_secured_modules m))) THEN NULL::boolean
    ELSE true
END IS NOT NULL));


--
-- Name: inbound_budgets; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.inbound_budgets ENABLE ROW LEVEL SECURITY;

--
-- Name: inbound_endpoints; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.inbound_endpoints ENABLE ROW LEVEL SECURITY;

--
-- Name: inbound_refusals; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.inbound_refusals ENABLE ROW LEVEL SECURITY;

--
-- Name: inbound_requests; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.inbound_requests ENABLE ROW LEVEL SECURITY;

--
-- Name: muted_changes; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.muted_changes ENABLE ROW LEVEL SECURITY;

--
-- Name: operator_actions; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.operator_actions ENABLE ROW LEVEL SECURITY;

--
-- Name: reorderings; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.reorderings ENABLE ROW LEVEL SECURITY;

--
-- Name: inbound_requests requests_to_row_secured_modules_are_hidden; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY requests_to_row_secured_modules_are_hidden ON collecta.inbound_requests FOR SELECT USING ((
CASE
    WHEN (inbound_endpoint_id = ANY (ARRAY( SELECT e.inbound_endpoint_id
       FROM (collecta.inbound_endpoints e
         JOIN collecta.row_secured_modules m ON ((m.slug = e.module)))))) THEN NULL::boolean
    ELSE true
END IS NOT NULL));


--
-- Name: inbound_budgets restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.inbound_budgets FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: inbound_endpoints restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.inbound_endpoints FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: inbound_refusals restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.inbound_refusals FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: inbound_requests restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.inbound_requests AS RESTRICTIVE FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: muted_changes restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.muted_changes AS RESTRICTIVE FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: reorderings restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.reorderings FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: routing_trouble restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.routing_trouble AS RESTRICTIVE FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: runners restricted_logins_see_none; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_none ON collecta.runners FOR SELECT USING (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)));


--
-- Name: operator_actions restricted_logins_see_their_actions; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_actions ON collecta.operator_actions FOR SELECT USING ((( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (done_by = CURRENT_USER)));


--
-- Name: alerts restricted_logins_see_their_endpoints; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_endpoints ON collecta.alerts FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (subject IN ( SELECT e.endpoint_id
       FROM collecta.endpoints e))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: delivery_rollup restricted_logins_see_their_endpoints; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_endpoints ON collecta.delivery_rollup FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (endpoint_id IN ( SELECT e.endpoint_id
       FROM collecta.endpoints e))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: endpoint_flow restricted_logins_see_their_endpoints; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_endpoints ON collecta.endpoint_flow FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (endpoint_id IN ( SELECT e.endpoint_id
       FROM collecta.endpoints e))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: subscriptions restricted_logins_see_their_endpoints; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_endpoints ON collecta.subscriptions FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (endpoint_id IN ( SELECT e.endpoint_id
       FROM collecta.endpoints e))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: delivery_attempts restricted_logins_see_their_scopes; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_scopes ON collecta.delivery_attempts FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR collecta.is_in_scope(event_id, payload_role, routed_at, ( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: delivery_queue restricted_logins_see_their_scopes; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_scopes ON collecta.delivery_queue FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR collecta.is_in_scope(event_id, payload_role, routed_at, ( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: endpoints restricted_logins_see_their_scopes; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_scopes ON collecta.endpoints FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (scope = ANY (( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes)::text[]))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: events restricted_logins_see_their_scopes; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_scopes ON collecta.events AS RESTRICTIVE FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR (scope = ANY (( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes)::text[]))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: unrouted restricted_logins_see_their_scopes; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY restricted_logins_see_their_scopes ON collecta.unrouted AS RESTRICTIVE FOR SELECT USING ((
CASE
    WHEN (( SELECT (collecta.visible_scopes(CURRENT_USER) IS NULL)) OR collecta.is_in_scope(event_id, payload_role, routed_at, ( SELECT collecta.visible_scopes(CURRENT_USER) AS visible_scopes))) THEN true
    ELSE NULL::boolean
END IS NOT NULL));


--
-- Name: routing_trouble; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.routing_trouble ENABLE ROW LEVEL SECURITY;

--
-- Name: runners; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.runners ENABLE ROW LEVEL SECURITY;

--
-- Name: subscriptions; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.subscriptions ENABLE ROW LEVEL SECURITY;

--
-- Name: routing_trouble trouble_is_hidden_where_a_module_is; Type: POLICY; Schema: collecta; Owner: collecta_owner
--

CREATE POLICY trouble_is_hidden_where_a_module_is ON collecta.routing_trouble FOR SELECT USING ((NOT (EXISTS ( SELECT
   FROM collecta.row_secured_modules))));


--
-- Name: unrouted; Type: ROW SECURITY; Schema: collecta; Owner: collecta_owner
--

ALTER TABLE collecta.unrouted ENABLE ROW LEVEL SECURITY;

--
-- Name: SCHEMA collecta; Type: ACL; Schema: -; Owner: collecta_owner
--

GRANT USAGE ON SCHEMA collecta TO collecta_capture;
GRANT USAGE ON SCHEMA collecta TO collecta_dispatcher;
GRANT USAGE ON SCHEMA collecta TO collecta_inbound;
GRANT USAGE ON SCHEMA collecta TO collecta_operator;
GRANT USAGE ON SCHEMA collecta TO collecta_reader;
GRANT USAGE ON SCHEMA collecta TO collecta_viewer;
GRANT USAGE ON SCHEMA collecta TO collecta_writer;


--
-- Name: SCHEMA collecta_rows; Type: ACL; Schema: -; Owner: collecta_owner
--

GRANT USAGE ON SCHEMA collecta_rows TO collecta_capture;


--
-- Name: TYPE change_reading; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.change_reading FROM PUBLIC;


--
-- Name: TYPE claim_cursor; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.claim_cursor FROM PUBLIC;


--
-- Name: TYPE claim_result; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.claim_result FROM PUBLIC;


--
-- Name: TYPE claim_room; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.claim_room FROM PUBLIC;


--
-- Name: TYPE delivery_result; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.delivery_result FROM PUBLIC;


--
-- Name: TYPE due_deliveries; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.due_deliveries FROM PUBLIC;


--
-- Name: TYPE inbound_request_state; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.inbound_request_state FROM PUBLIC;


--
-- Name: TYPE operation; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.operation FROM PUBLIC;


--
-- Name: TYPE recipient; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.recipient FROM PUBLIC;


--
-- Name: TYPE routed_changes; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.routed_changes FROM PUBLIC;


--
-- Name: TYPE routed_delivery; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.routed_delivery FROM PUBLIC;


--
-- Name: TYPE signature_rule; Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON TYPE collecta.signature_rule FROM PUBLIC;


--
-- Name: FUNCTION signature_rule(required boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.signature_rule(required boolean) FROM PUBLIC;


--
-- Name: FUNCTION accept_inbound_1(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.accept_inbound_1(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.accept_inbound_1(bodies text[], key_hashes text[], body_digests text[], checked_digests text[]) TO collecta_inbound;


--
-- Name: FUNCTION acting_role(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.acting_role() FROM PUBLIC;


--
-- Name: FUNCTION add_counts(counts jsonb, more jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.add_counts(counts jsonb, more jsonb) FROM PUBLIC;


--
-- Name: FUNCTION add_key_call(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.add_key_call(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION alert_events(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.alert_events() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.alert_events() TO collecta_reader;


--
-- Name: TABLE module_versions; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.module_versions TO collecta_reader;


--
-- Name: FUNCTION attach_again(module collecta.module_versions); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_again(module collecta.module_versions) FROM PUBLIC;


--
-- Name: FUNCTION attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_call(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION attach_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION attach_moved_shards(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_moved_shards() FROM PUBLIC;


--
-- Name: FUNCTION attach_partitions(slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_partitions(slug text) FROM PUBLIC;


--
-- Name: FUNCTION attach_relation(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_relation(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION attach_shards(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_shards(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION attach_shards_call(relation regclass, slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_shards_call(relation regclass, slug text) FROM PUBLIC;


--
-- Name: FUNCTION attach_triggers(relation regclass, module_id integer, on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attach_triggers(relation regclass, module_id integer, on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attempt_headers(headers json, event_id text, signed_at bigint, signature text, standard_signature text) FROM PUBLIC;


--
-- Name: FUNCTION attempt_id_at(moment timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.attempt_id_at(moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.attempt_id_at(moment timestamp with time zone) TO collecta_reader;


--
-- Name: FUNCTION body_contains(body text, fragment jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.body_contains(body text, fragment jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.body_contains(body text, fragment jsonb) TO collecta_reader;


--
-- Name: FUNCTION broken_inbound_endpoints(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.broken_inbound_endpoints() FROM PUBLIC;


--
-- Name: FUNCTION called_functions(source text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.called_functions(source text) FROM PUBLIC;


--
-- Name: FUNCTION can_group_inbound(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.can_group_inbound(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION capture_delete_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_delete_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_hashes(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_hashes() FROM PUBLIC;


--
-- Name: FUNCTION capture_inputs(module_id integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_inputs(module_id integer) FROM PUBLIC;


--
-- Name: FUNCTION capture_insert_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_insert_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_otherwise_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_otherwise_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_parts(module collecta.module_versions, subscribed text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_parts(module collecta.module_versions, subscribed text[]) FROM PUBLIC;


--
-- Name: FUNCTION capture_row_as_text_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_row_as_text_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_row_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_row_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.capture_statement(captured_version integer, module_id integer, relation oid, operation text, thin boolean) TO collecta_capture;


--
-- Name: FUNCTION capture_truncate_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_truncate_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_update_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_update_template() FROM PUBLIC;


--
-- Name: FUNCTION capture_usual_or_otherwise_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capture_usual_or_otherwise_template() FROM PUBLIC;


--
-- Name: FUNCTION captured_context(context text, traceparent text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.captured_context(context text, traceparent text) FROM PUBLIC;


--
-- Name: FUNCTION capturing_role(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.capturing_role() FROM PUBLIC;


--
-- Name: FUNCTION cast_inbound_1(input json, column_name text); Type: ACL; Schema: collecta; Owner: collecta_writer
--

REVOKE ALL ON FUNCTION collecta.cast_inbound_1(input json, column_name text) FROM PUBLIC;


--
-- Name: FUNCTION chain_changes(from_states bigint[], to_states bigint[], depths integer[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.chain_changes(from_states bigint[], to_states bigint[], depths integer[]) FROM PUBLIC;


--
-- Name: FUNCTION changes_of_keys(from_change bigint, most integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.changes_of_keys(from_change bigint, most integer) FROM PUBLIC;


--
-- Name: FUNCTION check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_endpoint(url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb) FROM PUBLIC;


--
-- Name: FUNCTION check_endpoint_id(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_endpoint_id(endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_endpoint_limits(retry_max integer, retry_base interval, max_in_flight integer, max_per_second integer) FROM PUBLIC;


--
-- Name: FUNCTION check_endpoints(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_endpoints() FROM PUBLIC;


--
-- Name: FUNCTION check_grants(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_grants() FROM PUBLIC;


--
-- Name: FUNCTION check_health(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_health() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.check_health() TO collecta_reader;


--
-- Name: FUNCTION check_inbound(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound() FROM PUBLIC;


--
-- Name: FUNCTION check_inbound_endpoint_id(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound_endpoint_id(inbound_endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound_mapping(module text, mapping jsonb, match_columns text[], INOUT match_where text, OUT relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION check_inbound_overlap(inbound_endpoint_id text, overlap interval); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound_overlap(inbound_endpoint_id text, overlap interval) FROM PUBLIC;


--
-- Name: FUNCTION check_inbound_sender(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound_sender() FROM PUBLIC;


--
-- Name: FUNCTION check_inbound_writer(relation regclass, writer name); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_inbound_writer(relation regclass, writer name) FROM PUBLIC;


--
-- Name: FUNCTION check_install(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_install() FROM PUBLIC;


--
-- Name: FUNCTION check_installation(environment text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_installation(environment text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.check_installation(environment text) TO collecta_dispatcher;
GRANT ALL ON FUNCTION collecta.check_installation(environment text) TO collecta_inbound;


--
-- Name: FUNCTION check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION check_modules(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_modules() FROM PUBLIC;


--
-- Name: FUNCTION check_outbound(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_outbound() FROM PUBLIC;


--
-- Name: FUNCTION check_shards(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.check_shards() FROM PUBLIC;


--
-- Name: FUNCTION claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.claim_deliveries(batch integer, batch_bytes bigint, per_endpoint integer, environment text, runner integer, cursor text, except_endpoints text[], everything boolean) TO collecta_dispatcher;


--
-- Name: FUNCTION claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.claim_due(hints collecta.claim_cursor, room collecta.claim_room, everything boolean, routing_works boolean) FROM PUBLIC;


--
-- Name: FUNCTION claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.claimed_delivery(delivery_id bigint, endpoint_id text, event_id text, awaited boolean, body text) FROM PUBLIC;


--
-- Name: FUNCTION column_expression(value text, type_id oid, as_text boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.column_expression(value text, type_id oid, as_text boolean) FROM PUBLIC;


--
-- Name: FUNCTION column_name(relation oid, number smallint); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.column_name(relation oid, number smallint) FROM PUBLIC;


--
-- Name: FUNCTION column_numbers(module collecta.module_versions, names text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.column_numbers(module collecta.module_versions, names text[]) FROM PUBLIC;


--
-- Name: FUNCTION column_types(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.column_types(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION compared_grants(exactly boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.compared_grants(exactly boolean) FROM PUBLIC;


--
-- Name: FUNCTION context_json(context text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.context_json(context text) FROM PUBLIC;


--
-- Name: FUNCTION create_endpoint(OUT endpoint_id text, url text, events text[], modules text[], INOUT secret text, retry_max integer, name text, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, max_per_second integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.create_endpoint(OUT endpoint_id text, url text, events text[], modules text[], INOUT secret text, retry_max integer, name text, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, max_per_second integer) FROM PUBLIC;


--
-- Name: FUNCTION create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[], INOUT secret text, sender text, each text, match_where text, require_signature collecta.signature_rule, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval, writer name); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.create_inbound_endpoint(OUT inbound_endpoint_id text, OUT path text, module text, mapping jsonb, match_columns text[], INOUT secret text, sender text, each text, match_where text, require_signature collecta.signature_rule, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval, writer name) FROM PUBLIC;


--
-- Name: FUNCTION database_identity(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.database_identity() FROM PUBLIC;


--
-- Name: FUNCTION delete_endpoint(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.delete_endpoint(endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION delete_inbound_endpoint(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.delete_inbound_endpoint(inbound_endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION designed_grants(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.designed_grants() FROM PUBLIC;


--
-- Name: FUNCTION detach_module(slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.detach_module(slug text) FROM PUBLIC;


--
-- Name: FUNCTION differing_grants(exactly boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.differing_grants(exactly boolean) FROM PUBLIC;


--
-- Name: FUNCTION disable_copy(physical_copy boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.disable_copy(physical_copy boolean) FROM PUBLIC;


--
-- Name: FUNCTION earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.earlier_inbound(inbound_endpoint_id text, key_hash text, body_digest text, check_digest boolean, digest_window interval, body text, OUT same boolean, OUT record_id text, OUT results json) FROM PUBLIC;


--
-- Name: FUNCTION element_type(type_id oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.element_type(type_id oid) FROM PUBLIC;


--
-- Name: FUNCTION encodable_characters(characters bytea); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.encodable_characters(characters bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.encodable_characters(characters bytea) TO collecta_dispatcher;


--
-- Name: FUNCTION end_leases(candidates tid[], present timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.end_leases(candidates tid[], present timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION enter_citus(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.enter_citus() FROM PUBLIC;


--
-- Name: FUNCTION equality_of(type_id oid, OUT operator text, OUT operand_cast text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.equality_of(type_id oid, OUT operator text, OUT operand_cast text) FROM PUBLIC;


--
-- Name: FUNCTION event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.event_body(event_id text, event text, sequence bigint, captured_at timestamp with time zone, module text, record_id text, status_from text, status_to text, record text, previous text, extras text) FROM PUBLIC;


--
-- Name: TABLE outbox; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT INSERT ON TABLE collecta.outbox TO collecta_capture;


--
-- Name: FUNCTION event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.event_body_for_role(payload_role text, event_id text, event text, change collecta.outbox, reading collecta.change_reading, extras text) FROM PUBLIC;


--
-- Name: FUNCTION event_extras(change collecta.outbox, truncated boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.event_extras(change collecta.outbox, truncated boolean) FROM PUBLIC;


--
-- Name: FUNCTION event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.event_id(change_id bigint, operation collecta.operation, captured_us bigint, transaction_id xid8, number integer) FROM PUBLIC;


--
-- Name: FUNCTION event_record(operation collecta.operation, old json, new json, truncated boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.event_record(operation collecta.operation, old json, new json, truncated boolean) FROM PUBLIC;


--
-- Name: FUNCTION fill_template(template text, parts jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.fill_template(template text, parts jsonb) FROM PUBLIC;


--
-- Name: FUNCTION find_inbound_endpoint(slug text, token_hash text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.find_inbound_endpoint(slug text, token_hash text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.find_inbound_endpoint(slug text, token_hash text) TO collecta_inbound;


--
-- Name: FUNCTION first_changes(most integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.first_changes(most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.first_changes(most integer) TO collecta_dispatcher;


--
-- Name: FUNCTION first_deliveries(most integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.first_deliveries(most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.first_deliveries(most integer) TO collecta_dispatcher;


--
-- Name: FUNCTION fit_inbound_budget(inbound_endpoint_id text, rate_limit integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.fit_inbound_budget(inbound_endpoint_id text, rate_limit integer) FROM PUBLIC;


--
-- Name: FUNCTION flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.flow_limits(present timestamp with time zone, OUT limits jsonb, OUT again_at timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION fold_rollup(present timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.fold_rollup(present timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION follow_columns(module collecta.module_versions, names text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.follow_columns(module collecta.module_versions, names text[]) FROM PUBLIC;


--
-- Name: FUNCTION forget_inbound_endpoint(inbound_endpoint_id text, number integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.forget_inbound_endpoint(inbound_endpoint_id text, number integer) FROM PUBLIC;


--
-- Name: FUNCTION forget_module(module_id integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.forget_module(module_id integer) FROM PUBLIC;


--
-- Name: FUNCTION form_inbound_value(value json, forms text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.form_inbound_value(value json, forms text[]) FROM PUBLIC;


--
-- Name: FUNCTION function_hash(f pg_proc); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.function_hash(f pg_proc) FROM PUBLIC;


--
-- Name: FUNCTION function_hash(function_id regprocedure); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.function_hash(function_id regprocedure) FROM PUBLIC;


--
-- Name: FUNCTION grant_inbound(relation regclass, function_number integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.grant_inbound(relation regclass, function_number integer) FROM PUBLIC;


--
-- Name: FUNCTION has_only_enums(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.has_only_enums(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION hides_records(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.hides_records(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION hold_lifeline(runner integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.hold_lifeline(runner integer) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.hold_lifeline(runner integer) TO collecta_dispatcher;


--
-- Name: FUNCTION inbound_accept_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_accept_template() FROM PUBLIC;


--
-- Name: FUNCTION inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_cast_problem(inbound_endpoint_id text, column_name text, "values" json) FROM PUBLIC;


--
-- Name: FUNCTION inbound_cast_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_cast_template() FROM PUBLIC;


--
-- Name: FUNCTION inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_failure(inbound_endpoint_id text, code text, message text, INOUT column_name text, constraint_name text, "values" json, OUT reason text) FROM PUBLIC;


--
-- Name: FUNCTION inbound_insert_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_insert_template() FROM PUBLIC;


--
-- Name: FUNCTION inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_map_parts(mapping jsonb, each text, each_alone boolean, max_elements integer) FROM PUBLIC;


--
-- Name: FUNCTION inbound_map_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_map_template() FROM PUBLIC;


--
-- Name: FUNCTION inbound_match_columns(columns text[], match_columns text[], scope_column text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_match_columns(columns text[], match_columns text[], scope_column text) FROM PUBLIC;


--
-- Name: FUNCTION inbound_match_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_match_template() FROM PUBLIC;


--
-- Name: FUNCTION inbound_path_sql(path text, start text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_path_sql(path text, start text) FROM PUBLIC;


--
-- Name: FUNCTION inbound_path_steps(path text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_path_steps(path text) FROM PUBLIC;


--
-- Name: FUNCTION inbound_shape(relation regclass, columns text[], version integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_shape(relation regclass, columns text[], version integer) FROM PUBLIC;


--
-- Name: FUNCTION inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_template_parts(relation regclass, columns text[], matched text[], key_columns text[], shape text, unchecked text[]) FROM PUBLIC;


--
-- Name: FUNCTION inbound_type_schemas(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_type_schemas(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION inbound_value_check(column_name text, type_id oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_value_check(column_name text, type_id oid) FROM PUBLIC;


--
-- Name: FUNCTION inbound_write_settings(relation regclass, columns text[], has_condition boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.inbound_write_settings(relation regclass, columns text[], has_condition boolean) FROM PUBLIC;


--
-- Name: FUNCTION infer_match_where(relation regclass, columns text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.infer_match_where(relation regclass, columns text[]) FROM PUBLIC;


--
-- Name: FUNCTION installed_migrations(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.installed_migrations() FROM PUBLIC;


--
-- Name: FUNCTION is_distributed(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_distributed(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) TO collecta_reader;
GRANT ALL ON FUNCTION collecta.is_in_scope(event_id text, payload_role text, routed_at timestamp with time zone, scopes text[]) TO collecta_viewer;


--
-- Name: FUNCTION is_inbound_secret(secret text, signatures jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_inbound_secret(secret text, signatures jsonb) FROM PUBLIC;


--
-- Name: FUNCTION is_inbound_shape(inbound_endpoint_id text, version integer, expected text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_inbound_shape(inbound_endpoint_id text, version integer, expected text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.is_inbound_shape(inbound_endpoint_id text, version integer, expected text) TO collecta_writer;


--
-- Name: FUNCTION is_inbound_source(source text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_inbound_source(source text) FROM PUBLIC;


--
-- Name: FUNCTION is_inbound_template(template text, names text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_inbound_template(template text, names text[]) FROM PUBLIC;


--
-- Name: FUNCTION is_same_json(a text, b text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_same_json(a text, b text) FROM PUBLIC;


--
-- Name: FUNCTION is_secret(secret text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_secret(secret text) FROM PUBLIC;


--
-- Name: FUNCTION is_unique_key(relation regclass, columns text[], match_where text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_unique_key(relation regclass, columns text[], match_where text) FROM PUBLIC;


--
-- Name: FUNCTION is_walled(view_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.is_walled(view_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.is_walled(view_name text) TO collecta_reader;
GRANT ALL ON FUNCTION collecta.is_walled(view_name text) TO collecta_viewer;


--
-- Name: FUNCTION key_expression(module collecta.module_versions, relation oid, alias text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.key_expression(module collecta.module_versions, relation oid, alias text) FROM PUBLIC;


--
-- Name: FUNCTION keys_of(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.keys_of(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION last_change_id(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.last_change_id() FROM PUBLIC;


--
-- Name: FUNCTION latency_step(ms double precision); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.latency_step(ms double precision) FROM PUBLIC;


--
-- Name: FUNCTION leave_citus(before jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.leave_citus(before jsonb) FROM PUBLIC;


--
-- Name: FUNCTION let_capture_read(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.let_capture_read(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION limit_endpoint(endpoint_id text, max_per_second integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.limit_endpoint(endpoint_id text, max_per_second integer) FROM PUBLIC;


--
-- Name: FUNCTION maintain(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.maintain() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.maintain() TO collecta_dispatcher;


--
-- Name: FUNCTION maintain_inbound(refusals json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.maintain_inbound(refusals json) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.maintain_inbound(refusals json) TO collecta_inbound;


--
-- Name: FUNCTION map_inbound_1(document json, mapping_version integer, OUT elements json[], OUT problem text, OUT column_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.map_inbound_1(document json, mapping_version integer, OUT elements json[], OUT problem text, OUT column_name text) FROM PUBLIC;


--
-- Name: FUNCTION mask_escapes(document json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.mask_escapes(document json) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.mask_escapes(document json) TO collecta_capture;


--
-- Name: FUNCTION mask_headers(headers jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.mask_headers(headers jsonb) FROM PUBLIC;


--
-- Name: FUNCTION mend_inbound(anew boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.mend_inbound(anew boolean) FROM PUBLIC;


--
-- Name: FUNCTION mend_queue(present timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.mend_queue(present timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION missing_columns(captured json, module collecta.module_versions, truncated boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.missing_columns(captured json, module collecta.module_versions, truncated boolean) FROM PUBLIC;


--
-- Name: FUNCTION module_members(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.module_members(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION new_id(prefix text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.new_id(prefix text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.new_id(prefix text) TO collecta_operator;
GRANT ALL ON FUNCTION collecta.new_id(prefix text) TO collecta_writer;


--
-- Name: FUNCTION new_secret(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.new_secret() FROM PUBLIC;


--
-- Name: FUNCTION next_due_in_ms(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.next_due_in_ms() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.next_due_in_ms() TO collecta_dispatcher;


--
-- Name: FUNCTION next_inbound_retries(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.next_inbound_retries() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.next_inbound_retries() TO collecta_inbound;


--
-- Name: FUNCTION note_action(statement text, touched bigint); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.note_action(statement text, touched bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.note_action(statement text, touched bigint) TO collecta_operator;


--
-- Name: FUNCTION note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.note_failures(failing text[], held text[], held_until timestamp with time zone[], gone text[]) FROM PUBLIC;


--
-- Name: FUNCTION note_successes(succeeded text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.note_successes(succeeded text[]) FROM PUBLIC;


--
-- Name: FUNCTION notifies(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.notifies() FROM PUBLIC;


--
-- Name: FUNCTION observe(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.observe() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.observe() TO collecta_dispatcher;


--
-- Name: FUNCTION omitted_columns(relation oid, names text[], numbers smallint[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.omitted_columns(relation oid, names text[], numbers smallint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.omitted_columns(relation oid, names text[], numbers smallint[]) TO collecta_capture;


--
-- Name: FUNCTION output_settings(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.output_settings(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION own_function(function_id regprocedure, owner_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.own_function(function_id regprocedure, owner_name text) FROM PUBLIC;


--
-- Name: FUNCTION own_functions(functions regprocedure[], owner_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.own_functions(functions regprocedure[], owner_name text) FROM PUBLIC;


--
-- Name: FUNCTION own_views(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.own_views() FROM PUBLIC;


--
-- Name: FUNCTION pause_endpoint(endpoint_id text, reason text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.pause_endpoint(endpoint_id text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.pause_endpoint(endpoint_id text, reason text) TO collecta_operator;


--
-- Name: FUNCTION pause_inbound_endpoint(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.pause_inbound_endpoint(inbound_endpoint_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.pause_inbound_endpoint(inbound_endpoint_id text) TO collecta_operator;


--
-- Name: FUNCTION pick_columns(document json, columns text[], keep boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.pick_columns(document json, columns text[], keep boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.pick_columns(document json, columns text[], keep boolean) TO collecta_capture;


--
-- Name: FUNCTION pinned_settings(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.pinned_settings() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.pinned_settings() TO collecta_capture;


--
-- Name: FUNCTION pin_output_settings(settings jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.pin_output_settings(settings jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.pin_output_settings(settings jsonb) TO collecta_capture;


--
-- Name: FUNCTION placed_shards(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.placed_shards(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION plain_predicate(predicate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.plain_predicate(predicate text) FROM PUBLIC;


--
-- Name: FUNCTION plan_dependencies(called text[], relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.plan_dependencies(called text[], relation oid) FROM PUBLIC;


--
-- Name: FUNCTION promote_next(endpoint_ids text[], record_keys bigint[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.promote_next(endpoint_ids text[], record_keys bigint[]) FROM PUBLIC;


--
-- Name: FUNCTION put_in_order(from_change bigint, changes_key bigint[], only_module integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.put_in_order(from_change bigint, changes_key bigint[], only_module integer) FROM PUBLIC;


--
-- Name: FUNCTION put_module_in_order(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.put_module_in_order() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.put_module_in_order() TO collecta_dispatcher;


--
-- Name: FUNCTION queue_replays(ids text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.queue_replays(ids text[]) FROM PUBLIC;


--
-- Name: FUNCTION raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.raise_alerts(counted_from timestamp with time zone, counted_to timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION read_change(module collecta.module_versions, operation collecta.operation, old json, new json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.read_change(module collecta.module_versions, operation collecta.operation, old json, new json) FROM PUBLIC;


--
-- Name: FUNCTION read_delivery(id bigint); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.read_delivery(id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.read_delivery(id bigint) TO collecta_dispatcher;


--
-- Name: FUNCTION read_figures(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.read_figures() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.read_figures() TO collecta_dispatcher;
GRANT ALL ON FUNCTION collecta.read_figures() TO collecta_inbound;
GRANT ALL ON FUNCTION collecta.read_figures() TO collecta_reader;


--
-- Name: FUNCTION read_inbound_mapping(mapping jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.read_inbound_mapping(mapping jsonb) FROM PUBLIC;


--
-- Name: FUNCTION receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.receive_inbound(inbound_endpoint_id text, body text, key_hash text, same_body boolean, body_digest text, ignored boolean, problem text, request_id text, final boolean, check_digest boolean, OUT status integer, OUT record_id text, OUT results json, OUT kept_as text, OUT reason text, OUT column_name text, OUT retry_after double precision) TO collecta_inbound;


--
-- Name: FUNCTION recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.recipients(module_id integer, operation collecta.operation, scope text, present timestamp with time zone, room collecta.claim_room) FROM PUBLIC;


--
-- Name: FUNCTION record_deliveries(results collecta.delivery_result[], urls text[], headers json[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_deliveries(results collecta.delivery_result[], urls text[], headers json[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.record_deliveries(results collecta.delivery_result[], urls text[], headers json[]) TO collecta_dispatcher;


--
-- Name: FUNCTION record_id(document json, key_columns text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_id(document json, key_columns text[]) FROM PUBLIC;


--
-- Name: FUNCTION record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_ids(old json, new json, key_columns text[], OUT old_id text, OUT new_id text) FROM PUBLIC;


--
-- Name: FUNCTION record_key(module text, record_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_key(module text, record_id text) FROM PUBLIC;


--
-- Name: FUNCTION record_outcome(id bigint, lease bigint, outcome text, reason text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_outcome(id bigint, lease bigint, outcome text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.record_outcome(id bigint, lease bigint, outcome text, reason text) TO collecta_dispatcher;


--
-- Name: FUNCTION record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.record_undelivered(results collecta.delivery_result[], urls text[], headers json[], base text, present timestamp with time zone, succeeded text[]) FROM PUBLIC;


--
-- Name: FUNCTION refuse_distributed(relation regclass, slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.refuse_distributed(relation regclass, slug text) FROM PUBLIC;


--
-- Name: FUNCTION refuse_slug(slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.refuse_slug(slug text) FROM PUBLIC;


--
-- Name: FUNCTION refuse_truncate_template(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.refuse_truncate_template() FROM PUBLIC;


--
-- Name: FUNCTION relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.relations_to_capture(capturer name, called text[], relation oid, has_parts boolean, database text, how text, layout text, pinned text[]) TO collecta_capture;


--
-- Name: FUNCTION release_deliveries(ids bigint[], leases bigint[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.release_deliveries(ids bigint[], leases bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.release_deliveries(ids bigint[], leases bigint[]) TO collecta_dispatcher;


--
-- Name: FUNCTION remember_module_tables(only_slug text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.remember_module_tables(only_slug text) FROM PUBLIC;


--
-- Name: FUNCTION replay_delivery(id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.replay_delivery(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.replay_delivery(id text) TO collecta_operator;


--
-- Name: FUNCTION replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.replay_undelivered(endpoint_id text, since timestamp with time zone, until timestamp with time zone) TO collecta_operator;


--
-- Name: FUNCTION resolve_modules(anew boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.resolve_modules(anew boolean) FROM PUBLIC;


--
-- Name: FUNCTION restore_grants(exactly boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.restore_grants(exactly boolean) FROM PUBLIC;


--
-- Name: FUNCTION restore_rows(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.restore_rows() FROM PUBLIC;


--
-- Name: FUNCTION restrict_login(login text, scopes text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.restrict_login(login text, scopes text[]) FROM PUBLIC;


--
-- Name: FUNCTION resume_after_restore(environment text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.resume_after_restore(environment text) FROM PUBLIC;


--
-- Name: FUNCTION resume_endpoint(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.resume_endpoint(endpoint_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.resume_endpoint(endpoint_id text) TO collecta_operator;


--
-- Name: FUNCTION resume_inbound_endpoint(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.resume_inbound_endpoint(inbound_endpoint_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.resume_inbound_endpoint(inbound_endpoint_id text) TO collecta_operator;


--
-- Name: FUNCTION retry_inbound(id text, since timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.retry_inbound(id text, since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.retry_inbound(id text, since timestamp with time zone) TO collecta_operator;


--
-- Name: FUNCTION revoke_execute(function_id regprocedure); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.revoke_execute(function_id regprocedure) FROM PUBLIC;


--
-- Name: FUNCTION role_name(usual_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.role_name(usual_name text) FROM PUBLIC;


--
-- Name: FUNCTION role_prefix(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.role_prefix() FROM PUBLIC;


--
-- Name: FUNCTION rotate_inbound_secret(inbound_endpoint_id text, overlap interval, secret text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.rotate_inbound_secret(inbound_endpoint_id text, overlap interval, secret text) FROM PUBLIC;


--
-- Name: FUNCTION rotate_inbound_token(inbound_endpoint_id text, overlap interval); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.rotate_inbound_token(inbound_endpoint_id text, overlap interval) FROM PUBLIC;


--
-- Name: FUNCTION rotate_secret(endpoint_id text, overlap interval, secret text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.rotate_secret(endpoint_id text, overlap interval, secret text) FROM PUBLIC;


--
-- Name: FUNCTION route_again(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.route_again(endpoint_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.route_again(endpoint_id text) TO collecta_operator;


--
-- Name: FUNCTION route_aside(change_ids bigint[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.route_aside(change_ids bigint[]) FROM PUBLIC;


--
-- Name: FUNCTION route_change(change_id bigint, without_filters text, only_try boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.route_change(change_id bigint, without_filters text, only_try boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.route_change(change_id bigint, without_filters text, only_try boolean) TO collecta_dispatcher;


--
-- Name: FUNCTION route_changes(max_changes integer, from_change bigint, settled_change bigint, in_order pg_snapshot, only_change bigint, without_filters text, room collecta.claim_room); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.route_changes(max_changes integer, from_change bigint, settled_change bigint, in_order pg_snapshot, only_change bigint, without_filters text, room collecta.claim_room) FROM PUBLIC;


--
-- Name: FUNCTION row_columns(relation oid, alias text, omitted text[], as_text boolean, wanted text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.row_columns(relation oid, alias text, omitted text[], as_text boolean, wanted text[]) FROM PUBLIC;


--
-- Name: FUNCTION row_size(relation oid, alias text, omitted text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.row_size(relation oid, alias text, omitted text[]) FROM PUBLIC;


--
-- Name: FUNCTION row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.row_statement(module collecta.module_versions, relation oid, omitted text[], alias text, other text, thin boolean, compared boolean) FROM PUBLIC;


--
-- Name: TABLE inbound_endpoints; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.inbound_endpoints TO collecta_reader;


--
-- Name: FUNCTION save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.save_inbound_endpoint(endpoint collecta.inbound_endpoints, secret text, OUT inbound_endpoint_id text, OUT token text, OUT function_number integer) FROM PUBLIC;


--
-- Name: FUNCTION save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.save_module(relation regclass, slug text, status_column text, custom_data_column text, scope_column text, exclude_columns text[], ignore_columns text[], key_columns text[], key_is_named boolean, on_truncate text) FROM PUBLIC;


--
-- Name: FUNCTION save_sender_presets(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.save_sender_presets() FROM PUBLIC;


--
-- Name: FUNCTION sealing_keys(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.sealing_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.sealing_keys() TO collecta_dispatcher;
GRANT ALL ON FUNCTION collecta.sealing_keys() TO collecta_inbound;


--
-- Name: FUNCTION sees_old_catalog(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.sees_old_catalog(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION send_alert(event text, subject text, detail jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.send_alert(event text, subject text, detail jsonb) FROM PUBLIC;


--
-- Name: FUNCTION send_test_event(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.send_test_event(endpoint_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.send_test_event(endpoint_id text) TO collecta_operator;


--
-- Name: FUNCTION set_aside_change(change_id bigint, reason text, read_key boolean); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.set_aside_change(change_id bigint, reason text, read_key boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.set_aside_change(change_id bigint, reason text, read_key boolean) TO collecta_dispatcher;


--
-- Name: FUNCTION set_aside_deliveries(ids bigint[], reason text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.set_aside_deliveries(ids bigint[], reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.set_aside_deliveries(ids bigint[], reason text) TO collecta_dispatcher;


--
-- Name: FUNCTION set_inbound_state(inbound_endpoint_id text, state text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.set_inbound_state(inbound_endpoint_id text, state text) FROM PUBLIC;


--
-- Name: FUNCTION shard_nodes(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.shard_nodes(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION shards_of(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.shards_of(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION subscribe_endpoint(endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.subscribe_endpoint(endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION table_layout(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.table_layout(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION take_back(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.take_back() FROM PUBLIC;


--
-- Name: FUNCTION take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.take_inbound_budget(inbound_endpoint_id text, rate_limit integer, wanted integer, arrived timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION test_inbound_mapping(inbound_endpoint_id text, payload json); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.test_inbound_mapping(inbound_endpoint_id text, payload json) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.test_inbound_mapping(inbound_endpoint_id text, payload json) TO collecta_operator;


--
-- Name: FUNCTION truncate_problem(relation oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.truncate_problem(relation oid) FROM PUBLIC;


--
-- Name: FUNCTION truncate_remedy(relation regclass); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.truncate_remedy(relation regclass) FROM PUBLIC;


--
-- Name: FUNCTION try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.try_filter(body text, filter jsonpath, OUT matches boolean, OUT reason text) FROM PUBLIC;


--
-- Name: FUNCTION try_inbound_match(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.try_inbound_match(inbound_endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION type_kind(type_id oid); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.type_kind(type_id oid) FROM PUBLIC;


--
-- Name: FUNCTION unique_keys(relation regclass, columns text[], OUT predicate text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.unique_keys(relation regclass, columns text[], OUT predicate text) FROM PUBLIC;


--
-- Name: FUNCTION unmask_escapes(document text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.unmask_escapes(document text) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.unmask_escapes(document text) TO collecta_capture;


--
-- Name: FUNCTION unresolved_columns(module collecta.module_versions); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.unresolved_columns(module collecta.module_versions) FROM PUBLIC;


--
-- Name: FUNCTION unrestrict_login(login text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.unrestrict_login(login text) FROM PUBLIC;


--
-- Name: FUNCTION update_endpoint(endpoint_id text, url text, events text[], modules text[], retry_max integer, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, all_modules boolean, max_per_second integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.update_endpoint(endpoint_id text, url text, events text[], modules text[], retry_max integer, filter text, scope text, ordered boolean, payload_role text, headers jsonb, retry_base interval, max_in_flight integer, all_modules boolean, max_per_second integer) FROM PUBLIC;


--
-- Name: FUNCTION update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb, match_columns text[], match_where text, each text, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.update_inbound_endpoint(inbound_endpoint_id text, mapping jsonb, match_columns text[], match_where text, each text, rate_limit_per_minute integer, max_body_bytes integer, events text[], keep_ignored boolean, each_alone boolean, max_elements integer, digest_window interval) FROM PUBLIC;


--
-- Name: FUNCTION use_slots(present timestamp with time zone, endpoint_ids text[]); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.use_slots(present timestamp with time zone, endpoint_ids text[]) FROM PUBLIC;


--
-- Name: FUNCTION visible_scopes(asker name); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.visible_scopes(asker name) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.visible_scopes(asker name) TO collecta_reader;
GRANT ALL ON FUNCTION collecta.visible_scopes(asker name) TO collecta_viewer;


--
-- Name: FUNCTION wake_runner(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.wake_runner() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.wake_runner() TO collecta_dispatcher;


--
-- Name: FUNCTION walled_views(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.walled_views() FROM PUBLIC;


--
-- Name: FUNCTION why_not_restricted(login name); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.why_not_restricted(login name) FROM PUBLIC;


--
-- Name: FUNCTION write_capture_functions(module_id integer); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.write_capture_functions(module_id integer) FROM PUBLIC;


--
-- Name: FUNCTION write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.write_inbound(inbound_endpoint_id text, function_number integer, mapping_version integer, stale boolean, single boolean, alone boolean, body text, done json, final boolean, OUT state text, OUT record_id text, OUT operation text, OUT results json, OUT code text, OUT message text, OUT reason text, OUT column_name text) FROM PUBLIC;


--
-- Name: FUNCTION write_inbound_1(elements json[], mapping_version integer, OUT record_ids text[], OUT operations text[]); Type: ACL; Schema: collecta; Owner: collecta_writer
--

REVOKE ALL ON FUNCTION collecta.write_inbound_1(elements json[], mapping_version integer, OUT record_ids text[], OUT operations text[]) FROM PUBLIC;


--
-- Name: FUNCTION write_inbound_functions(inbound_endpoint_id text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.write_inbound_functions(inbound_endpoint_id text) FROM PUBLIC;


--
-- Name: FUNCTION writer_timed_out(); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.writer_timed_out() FROM PUBLIC;
GRANT ALL ON FUNCTION collecta.writer_timed_out() TO collecta_capture;


--
-- Name: FUNCTION written_owner(owner_name text); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.written_owner(owner_name text) FROM PUBLIC;


--
-- Name: FUNCTION capture_1_delete(); Type: ACL; Schema: collecta_modules; Owner: collecta_capture
--

REVOKE ALL ON FUNCTION collecta_modules.capture_1_delete() FROM PUBLIC;


--
-- Name: FUNCTION capture_1_insert(); Type: ACL; Schema: collecta_modules; Owner: collecta_capture
--

REVOKE ALL ON FUNCTION collecta_modules.capture_1_insert() FROM PUBLIC;


--
-- Name: FUNCTION capture_1_truncate(); Type: ACL; Schema: collecta_modules; Owner: collecta_capture
--

REVOKE ALL ON FUNCTION collecta_modules.capture_1_truncate() FROM PUBLIC;


--
-- Name: FUNCTION capture_1_update(); Type: ACL; Schema: collecta_modules; Owner: collecta_capture
--

REVOKE ALL ON FUNCTION collecta_modules.capture_1_update() FROM PUBLIC;


--
-- Name: FUNCTION row_1(captured record, other record); Type: ACL; Schema: collecta_rows; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta_rows.row_1(captured record, other record) FROM PUBLIC;
GRANT ALL ON FUNCTION collecta_rows.row_1(captured record, other record) TO collecta_capture;


--
-- Name: FUNCTION sum_counts(jsonb); Type: ACL; Schema: collecta; Owner: collecta_owner
--

REVOKE ALL ON FUNCTION collecta.sum_counts(jsonb) FROM PUBLIC;


--
-- Name: TABLE alerts; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.alerts TO collecta_reader;


--
-- Name: TABLE delivery_attempts; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.delivery_attempts TO collecta_viewer;


--
-- Name: COLUMN delivery_attempts.id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(id) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.event_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(event_id) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.payload_role; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(payload_role) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.routed_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(routed_at) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.endpoint_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(endpoint_id) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.attempt; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(attempt) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.outcome; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(outcome) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.url; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(url) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.request_headers; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(request_headers) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.response_status; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(response_status) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.started_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(started_at) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.finished_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(finished_at) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.lookup_ms; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(lookup_ms) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.connect_ms; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(connect_ms) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.first_byte_ms; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(first_byte_ms) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.total_ms; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(total_ms) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.next_attempt_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(next_attempt_at) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: COLUMN delivery_attempts.replay_of; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(replay_of) ON TABLE collecta.delivery_attempts TO collecta_reader;


--
-- Name: TABLE delivery_queue; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.delivery_queue TO collecta_viewer;


--
-- Name: COLUMN delivery_queue.delivery_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(delivery_id) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.change_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(change_id) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.due_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(due_at) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.leased_until; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(leased_until) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.routed_at; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(routed_at) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.held_since; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(held_since) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue."position"; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT("position") ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.bytes; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(bytes) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.attempt; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(attempt) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.losses; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(losses) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.runner; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(runner) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.endpoint_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(endpoint_id) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.event_id; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(event_id) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.payload_role; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(payload_role) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: COLUMN delivery_queue.replay_of; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT(replay_of) ON TABLE collecta.delivery_queue TO collecta_reader;


--
-- Name: TABLE delivery_rollup; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.delivery_rollup TO collecta_reader;


--
-- Name: TABLE endpoint_flow; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.endpoint_flow TO collecta_reader;


--
-- Name: TABLE endpoints; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.endpoints TO collecta_reader;
GRANT SELECT ON TABLE collecta.endpoints TO collecta_viewer;


--
-- Name: TABLE events; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.events TO collecta_reader;
GRANT SELECT ON TABLE collecta.events TO collecta_viewer;


--
-- Name: TABLE health; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.health TO collecta_reader;


--
-- Name: TABLE inbound_budgets; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.inbound_budgets TO collecta_reader;


--
-- Name: TABLE inbound_refusals; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.inbound_refusals TO collecta_reader;


--
-- Name: TABLE inbound_requests; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.inbound_requests TO collecta_reader;


--
-- Name: TABLE inbound_senders; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.inbound_senders TO collecta_reader;


--
-- Name: TABLE installation; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.installation TO collecta_reader;


--
-- Name: TABLE migrations; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.migrations TO collecta_dispatcher;
GRANT SELECT ON TABLE collecta.migrations TO collecta_inbound;
GRANT SELECT ON TABLE collecta.migrations TO collecta_reader;


--
-- Name: TABLE modules; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.modules TO collecta_reader;


--
-- Name: TABLE muted_changes; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.muted_changes TO collecta_reader;


--
-- Name: TABLE observation; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.observation TO collecta_reader;


--
-- Name: TABLE operator_actions; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.operator_actions TO collecta_reader;


--
-- Name: SEQUENCE outbox_change_id_seq; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON SEQUENCE collecta.outbox_change_id_seq TO collecta_reader;


--
-- Name: TABLE reorderings; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.reorderings TO collecta_reader;


--
-- Name: TABLE routing_trouble; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.routing_trouble TO collecta_reader;


--
-- Name: TABLE row_secured_modules; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.row_secured_modules TO collecta_reader;
GRANT SELECT ON TABLE collecta.row_secured_modules TO collecta_viewer;


--
-- Name: TABLE runners; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.runners TO collecta_reader;


--
-- Name: TABLE secret_overlaps; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.secret_overlaps TO collecta_reader;


--
-- Name: TABLE settings; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.settings TO collecta_capture;
GRANT SELECT ON TABLE collecta.settings TO collecta_dispatcher;
GRANT SELECT ON TABLE collecta.settings TO collecta_reader;


--
-- Name: TABLE subscriptions; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.subscriptions TO collecta_reader;


--
-- Name: TABLE undelivered; Type: ACL; Schema: collecta; Owner: collecta_viewer
--

GRANT SELECT ON TABLE collecta.undelivered TO collecta_reader;


--
-- Name: TABLE unrouted; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.unrouted TO collecta_reader;


--
-- Name: TABLE waiting_changes; Type: ACL; Schema: collecta; Owner: collecta_owner
--

GRANT SELECT ON TABLE collecta.waiting_changes TO collecta_reader;


--
-- Name: TABLE webhook_deliveries; Type: ACL; Schema: collecta; Owner: collecta_viewer
--

GRANT SELECT ON TABLE collecta.webhook_deliveries TO collecta_reader;


--
-- Name: TABLE work_orders; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT ON TABLE public.work_orders TO collecta_capture;


--
-- Name: COLUMN work_orders.tableoid; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT(tableoid) ON TABLE public.work_orders TO collecta_writer;


--
-- Name: COLUMN work_orders.ctid; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT(ctid) ON TABLE public.work_orders TO collecta_writer;


--
-- Name: COLUMN work_orders.id; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT(id),INSERT(id),UPDATE(id) ON TABLE public.work_orders TO collecta_writer;


--
-- Name: COLUMN work_orders.status; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT(status),INSERT(status),UPDATE(status) ON TABLE public.work_orders TO collecta_writer;


--
-- Name: restored_grants; Type: MATERIALIZED VIEW DATA; Schema: collecta; Owner: collecta_owner
--

REFRESH MATERIALIZED VIEW collecta.restored_grants;


--
-- PostgreSQL database dump complete
--

\unrestrict BnuSIlpC7br8xuabW5pCxXUsa1qwlAHAxim4d6Uep9B4P5Ttl3kPMrh5alonijD

