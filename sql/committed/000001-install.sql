--! Previous: -
--! Hash: sha1:17b8d4ebc844e669079e2510c3f64f495dcf0a5e
--! Message: Install

--! Included schema/collecta.sql
create schema if not exists collecta;

comment on schema collecta is
  'Webhooks for the tables of this database: changes captured, routed, delivered and kept for audit. Start with \df+ collecta.*';
--! EndIncluded schema/collecta.sql
--! Included roles/roles.sql
-- Roles are a cluster's, not a database's: another database's install may have made them already, and an installer
-- without CREATEROLE cannot make them at all. Then everything belongs to the installer and the notice says so.
do $$
declare
  role_name text;
begin
  foreach role_name in array array['collecta_owner', 'collecta_capture', 'collecta_writer',
                                   'collecta_dispatcher', 'collecta_inbound', 'collecta_reader', 'collecta_operator'] loop
    begin
      if to_regrole(role_name) is null then
        execute format('create role %I nologin', role_name);
      end if;
      -- The installer must be able to act as the owners; who made a role may grant it (16 and later: to itself too).
      if role_name in ('collecta_owner', 'collecta_capture', 'collecta_writer')
         and not pg_has_role(current_user, role_name, 'usage') then
        execute format('grant %I to current_user', role_name);
      end if;
    exception
      when insufficient_privilege or duplicate_object or unique_violation then
        raise notice 'collecta: role % was skipped: %', role_name, sqlerrm
          using hint = format('As a role with CREATEROLE: create role %I nologin; grant %I to %I; then install again in an empty schema, or go on without it.',
                              role_name, role_name, current_user);
    end;
  end loop;
  -- The functions that write capture and inbound functions run as collecta_owner and hand them to these two.
  begin
    if to_regrole('collecta_owner') is not null and to_regrole('collecta_capture') is not null
       and not pg_has_role('collecta_owner', 'collecta_capture', 'usage') then
      grant collecta_capture to collecta_owner;
    end if;
    if to_regrole('collecta_owner') is not null and to_regrole('collecta_writer') is not null
       and not pg_has_role('collecta_owner', 'collecta_writer', 'usage') then
      grant collecta_writer to collecta_owner;
    end if;
    if to_regrole('collecta_owner') is not null and pg_has_role(current_user, 'collecta_owner', 'usage') then
      alter schema collecta owner to collecta_owner;
      set local role collecta_owner;
    end if;
  exception
    when insufficient_privilege then
      raise notice 'collecta: everything will belong to % (%)', current_user, sqlerrm;
  end;
end
$$;
--! EndIncluded roles/roles.sql

--! Included tables/settings.sql
create table collecta.settings (
  singleton boolean not null default true,
  retention interval not null default '30 days',
  lease interval not null default '60 s',
  max_record_bytes int not null default 1000000,
  max_truncate_records int not null default 10000,
  pause_after interval not null default '5 days',
  notify boolean,
  constraint settings_pkey primary key (singleton),
  constraint settings_is_one_row check (singleton),
  constraint settings_retention_is_a_day_or_more check (retention >= interval '1 day'),
  constraint settings_lease_outlasts_the_deadline check (lease >= interval '45 s'),
  constraint settings_max_record_bytes_in_bounds check (max_record_bytes between 1000 and 100000000),
  constraint settings_max_truncate_records_in_bounds check (max_truncate_records between 0 and 10000000),
  constraint settings_pause_after_is_an_hour_or_more check (pause_after >= interval '1 hour')
);
insert into collecta.settings default values;
comment on table collecta.settings is 'One row: what holds for the whole install. Change it with UPDATE; it is read when used.';
comment on column collecta.settings.retention is 'How long events and delivery attempts are kept; whole days are dropped by maintain().';
comment on column collecta.settings.lease is 'After this a claimed delivery whose runner was not heard of is claimed again. Longer than the 30 s of an exchange, with a margin to record it.';
comment on column collecta.settings.max_record_bytes is 'A record whose columns together are larger is captured thin: key, scope, status and "truncated": true.';
comment on column collecta.settings.max_truncate_records is 'TRUNCATE of more records than this sends one record_deleted with a count instead of one each.';
comment on column collecta.settings.pause_after is 'An endpoint that has failed for so long without one success is paused, with its reason.';
comment on column collecta.settings.notify is 'Whether writers wake a sleeping runner by NOTIFY. Null: yes, unless max_prepared_transactions is above 0 (PREPARE TRANSACTION refuses a transaction that notified). After a change: select collecta.write_capture_functions(module_id) from collecta.modules.';
--! EndIncluded tables/settings.sql
--! Included tables/installation.sql
create table collecta.installation (
  singleton boolean not null default true,
  system_identifier bigint not null,
  database_oid oid not null,
  environment text,
  since timestamptz not null default now(),
  constraint installation_pkey primary key (singleton),
  constraint installation_is_one_row check (singleton)
);
insert into collecta.installation (system_identifier, database_oid)
select control.system_identifier, d.oid
from pg_control_system() control, pg_database d
where d.datname = current_database();
comment on table collecta.installation is
  'Which database this install delivers for. In a restored or cloned one nothing is claimed until collecta.resume_after_restore(): staging must not fire production''s webhooks.';
comment on column collecta.installation.environment is
  'A label (COLLECTA_ENVIRONMENT of the runners): the only thing that tells a physical copy, which keeps both identifiers, from its original. Null: not compared.';
--! EndIncluded tables/installation.sql
--! Included tables/modules.sql
create table collecta.modules (
  module_id int generated always as identity,
  slug text collate "C" not null,
  relation regclass not null,
  current_version int,
  attached_at timestamptz not null default now(),
  constraint modules_pkey primary key (module_id),
  constraint modules_slug_is_unique unique (slug),
  constraint modules_relation_is_unique unique (relation),
  constraint modules_slug_is_well_formed check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$')
);
comment on table collecta.modules is 'Attached tables. A row appears with attach_module and goes with detach_module.';
comment on column collecta.modules.slug is 'The module''s name in payloads and inbound URLs.';
comment on column collecta.modules.current_version is 'Its module_versions row in force; captured changes name the version they were captured under.';

create table collecta.module_versions (
  version int generated always as identity,
  module_id int not null,
  slug text collate "C" not null,
  relation oid not null,
  key_columns text[] not null,
  status_column text,
  custom_data_column text,
  scope_column text,
  exclude_columns text[] not null,
  ignore_columns text[] not null,
  on_truncate text not null,
  excluded_attnums smallint[] not null,
  made_at timestamptz not null default now(),
  constraint module_versions_pkey primary key (version),
  constraint module_versions_on_truncate_is_known check (on_truncate in ('records', 'ignore', 'refuse'))
);
comment on table collecta.module_versions is
  'How a module was attached, one row each time. A version outlives detach_module until what was captured under it is routed.';
comment on column collecta.module_versions.key_columns is 'Columns that make record_id, in key order.';
comment on column collecta.module_versions.exclude_columns is 'Never captured, not even into the outbox: personal data stays in its table.';
comment on column collecta.module_versions.ignore_columns is 'In the payload, but a change of these alone is none (updated_at).';
comment on column collecta.module_versions.on_truncate is 'records: a record_deleted for each (above settings.max_truncate_records one with a count); ignore; refuse.';
comment on column collecta.module_versions.excluded_attnums is 'Their pg_attribute numbers: a renamed column stays excluded.';
--! EndIncluded tables/modules.sql
--! Included tables/endpoints.sql
create table collecta.endpoints (
  endpoint_id text collate "C" not null,
  name text,
  url text not null,
  events text[] not null,
  modules text[],
  state text not null default 'active',
  paused_reason text,
  failing_since timestamptz,
  filter jsonpath,
  scope text,
  ordered boolean not null default false,
  payload_role text not null default '',
  headers jsonb not null default '{}',
  retry_max int not null default 5,
  retry_base interval not null default '60 s',
  max_in_flight int not null default 50,
  after_change_id bigint not null,
  created_at timestamptz not null default now(),
  constraint endpoints_pkey primary key (endpoint_id),
  constraint endpoints_name_is_unique unique (name),
  constraint endpoints_state_is_known check (state in ('active', 'paused', 'deleted')),
  constraint endpoints_events_are_known check (
    events <> '{}' and array_position(events, null) is null and events <@ array['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated']),
  constraint endpoints_modules_are_some check (modules <> '{}' and array_position(modules, null) is null),
  constraint endpoints_url_is_http check (url ~ '^https?://[^/?#@[:space:]]+([/?][^#[:space:]]*)?$' and length(url) <= 2048),
  constraint endpoints_retry_max_in_bounds check (retry_max between 0 and 20),
  constraint endpoints_retry_base_in_bounds check (retry_base between interval '0.1 s' and interval '1 day'),
  constraint endpoints_max_in_flight_in_bounds check (max_in_flight between 1 and 10000),
  constraint endpoints_headers_are_an_object check (jsonb_typeof(headers) = 'object')
);
comment on table collecta.endpoints is 'Destinations. Made with create_endpoint; deleted ones keep their row, their id is never used again.';
comment on column collecta.endpoints.name is 'Makes create_endpoint idempotent: the same name updates and returns the same endpoint.';
comment on column collecta.endpoints.modules is 'Slugs; null is all modules, future ones included.';
comment on column collecta.endpoints.state is 'active; paused (keeps queueing, nothing is dropped); deleted (its history stays).';
comment on column collecta.endpoints.paused_reason is 'Why it is paused: by whom was asked, a 410, or failing for settings.pause_after.';
comment on column collecta.endpoints.failing_since is 'End of the first failed attempt after the last success; null while it succeeds.';
comment on column collecta.endpoints.filter is 'SQL/JSON path predicate over the payload (jsonb_path_match); only events for which it is true are queued.';
comment on column collecta.endpoints.scope is 'Only events of records whose scope column equals this.';
comment on column collecta.endpoints.ordered is 'Per record one delivery at a time, in the order of the changes.';
comment on column collecta.endpoints.payload_role is 'The payload keeps only columns that this role may SELECT (column grants; row policies are not evaluated). Empty: all captured columns.';
comment on column collecta.endpoints.headers is 'Extra request headers, name to value.';
comment on column collecta.endpoints.retry_max is 'Retries after the first attempt: 5 means six attempts in all.';
comment on column collecta.endpoints.retry_base is 'Wait after the first failed attempt; each further one doubles it.';
comment on column collecta.endpoints.max_in_flight is 'Deliveries in flight at once, over all runners.';
comment on column collecta.endpoints.after_change_id is 'The outbox''s sequence when the endpoint was made: it gets what was captured after.';

create table collecta.endpoint_secrets (
  endpoint_id text collate "C" not null,
  secret text not null,
  previous_secret text,
  previous_until timestamptz,
  constraint endpoint_secrets_pkey primary key (endpoint_id),
  constraint endpoint_secrets_belong_to_an_endpoint foreign key (endpoint_id) references collecta.endpoints on delete cascade
);
comment on table collecta.endpoint_secrets is 'Signing secrets, apart from what readers may select.';
comment on column collecta.endpoint_secrets.previous_secret is 'During rotate_secret''s overlap: webhook-signature carries both, X-Webhook-Signature this one.';

create table collecta.subscriptions (
  module_id int not null,
  event text collate "C" not null,
  endpoint_id text collate "C" not null,
  scope text collate "C",
  after_change_id bigint not null,
  constraint subscriptions_pkey primary key (module_id, event, endpoint_id),
  constraint subscriptions_belong_to_an_endpoint foreign key (endpoint_id) references collecta.endpoints on delete cascade
);
create index subscriptions_by_scope on collecta.subscriptions (module_id, event, scope);
comment on table collecta.subscriptions is
  'Which endpoint gets which event of which module: endpoints.events x modules, written out so that routing is an index look-up. Kept by the endpoint functions.';
comment on column collecta.subscriptions.scope is 'The endpoint''s scope: ten thousand tenants'' endpoints on one module cost what one does.';
--! EndIncluded tables/endpoints.sql
--! Included tables/outbox.sql
create table collecta.outbox (
  change_id bigint generated always as identity (cache 1),
  version int not null,
  operation "char" not null,
  old json,
  new json,
  transaction_id xid8 not null default pg_current_xact_id(),
  nested boolean not null default pg_trigger_depth() > 1,
  captured_at timestamptz not null,
  context text,
  constraint outbox_pkey primary key (change_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
comment on table collecta.outbox is
  'Captured row changes that are not routed yet: written in the user''s own transaction, gone when routed. Usually empty.';
comment on column collecta.outbox.change_id is 'The order of routing.';
comment on column collecta.outbox.version is 'collecta.module_versions under which it was captured.';
comment on column collecta.outbox.operation is 'I insert, U update, D delete, T truncate (new holds the count), M muted (new holds operation and count).';
comment on column collecta.outbox.old is 'The row before, as json and not jsonb: nothing that a json column may hold can fail the user''s statement. "$truncated" marks a thin one.';
comment on column collecta.outbox.nested is 'Captured inside a trigger: it stands before the statement that it belongs to, and is put in order when routed.';
comment on column collecta.outbox.captured_at is 'Clock time of the statement''s capture: with transaction_id it names the statement.';
comment on column collecta.outbox.context is 'collecta.context of the transaction.';
--! EndIncluded tables/outbox.sql
--! Included tables/events.sql
create table collecta.events (
  event_id text collate "C" not null,
  payload_role text collate "C" not null default '',
  routed_at timestamptz not null,
  change_id bigint not null,
  position int not null,
  module text collate "C" not null,
  event text collate "C" not null,
  record_id text collate "C",
  scope text collate "C",
  occurred_at timestamptz not null,
  body text not null,
  constraint events_pkey primary key (event_id, payload_role, routed_at)
) partition by range (routed_at);
create index events_by_record on collecta.events (record_id, module);
comment on table collecta.events is
  'What changes meant to subscribers, with the body that is sent. Immutable, kept for settings.retention, partitioned by day of routing.';
comment on column collecta.events.event_id is 'The payload''s id and the webhook-id header: the same on every attempt and on a replay.';
comment on column collecta.events.payload_role is 'Whose body it is: empty, or the payload_role of the endpoints it was made for.';
comment on column collecta.events.routed_at is 'When it was routed (not occurred): the partition key.';
comment on column collecta.events.position is 'Order among the events of one change.';
comment on column collecta.events.record_id is 'Primary key as text; of a composite key the compact JSON array in key order.';
--! EndIncluded tables/events.sql
--! Included tables/delivery_queue.sql
create table collecta.delivery_queue (
  delivery_id bigint generated always as identity,
  change_id bigint not null,
  due_at timestamptz not null,
  leased_until timestamptz,
  routed_at timestamptz not null,
  position int not null,
  attempt int not null default 0,
  endpoint_id text collate "C" not null,
  event_id text collate "C" not null,
  payload_role text collate "C" not null default '',
  record_id text collate "C",
  replay_of text collate "C",
  constraint delivery_queue_pkey primary key (delivery_id)
) with (fillfactor = 45, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
create index delivery_queue_by_due on collecta.delivery_queue (endpoint_id, due_at, change_id, position);
create index delivery_queue_by_record on collecta.delivery_queue (endpoint_id, record_id, change_id, position) where record_id is not null;
comment on table collecta.delivery_queue is
  'Events still to be delivered to an endpoint. Narrow and short-lived; the lease is in no index and pages are left half empty, so that a claim is a HOT update.';
comment on column collecta.delivery_queue.due_at is 'When it may be sent. infinity: an ordered endpoint''s, behind an earlier change of the same record.';
comment on column collecta.delivery_queue.leased_until is 'A runner is at it until then; past it, it may be claimed again.';
comment on column collecta.delivery_queue.attempt is 'Attempts begun. It fences: a result for an earlier attempt changes nothing.';
comment on column collecta.delivery_queue.record_id is 'For ordered endpoints only.';
comment on column collecta.delivery_queue.replay_of is 'webhook_deliveries.id of the attempt that is replayed.';
--! EndIncluded tables/delivery_queue.sql
--! Included tables/delivery_attempts.sql
create table collecta.delivery_attempts (
  id text collate "C" not null,
  event_id text collate "C" not null,
  payload_role text collate "C" not null default '',
  routed_at timestamptz not null,
  endpoint_id text collate "C" not null,
  attempt int not null,
  outcome text collate "C" not null,
  url text not null,
  request_headers json,
  response_status int,
  response_headers json,
  response_body text,
  error text,
  started_at timestamptz not null,
  finished_at timestamptz not null,
  lookup_ms real,
  connect_ms real,
  first_byte_ms real,
  total_ms real,
  next_attempt_at timestamptz,
  replay_of text collate "C",
  constraint delivery_attempts_pkey primary key (id, routed_at),
  constraint delivery_attempts_outcome_is_known check (outcome in ('delivered', 'failed', 'exhausted', 'blocked', 'lost'))
) partition by range (routed_at);
create index delivery_attempts_by_event on collecta.delivery_attempts (event_id);
create index delivery_attempts_by_time on collecta.delivery_attempts using brin (started_at);
comment on table collecta.delivery_attempts is 'One POST a row. Read collecta.webhook_deliveries, which brings it together with its event.';
--! EndIncluded tables/delivery_attempts.sql
--! Included tables/unrouted.sql
create table collecta.unrouted (
  change_id bigint not null,
  position int not null default 0,
  endpoint_id text collate "C" not null default '',
  module text collate "C" not null,
  record_id text collate "C",
  event_id text collate "C",
  payload_role text collate "C" not null default '',
  routed_at timestamptz,
  change json,
  reason text not null,
  set_aside_at timestamptz not null default now(),
  constraint unrouted_pkey primary key (change_id, position, endpoint_id)
);
create index unrouted_by_record on collecta.unrouted (record_id) where record_id is not null;
comment on table collecta.unrouted is
  'What could not be routed and why; it stops nothing else. Mend the cause, then select collecta.route_again().';
comment on column collecta.unrouted.endpoint_id is 'The endpoint whose filter failed on the event; empty: the whole change, kept in change.';
comment on column collecta.unrouted.change is 'The outbox row of a change that no event could be made of.';

create table collecta.muted_changes (
  change_id bigint not null,
  module text collate "C" not null,
  operation text not null,
  records bigint not null,
  transaction_id xid8 not null,
  context text,
  captured_at timestamptz not null,
  constraint muted_changes_pkey primary key (change_id)
);
comment on table collecta.muted_changes is
  'Statements that ran under collecta.muted = on: what was not captured, so that a mute can be seen. Kept for settings.retention.';
--! EndIncluded tables/unrouted.sql

--! Included functions/new_id.sql
-- UUIDv7 layout (RFC 9562) as 32 hexadecimal digits behind a prefix: 48 bits of milliseconds, version, 74 random bits.
create or replace function collecta.new_id(prefix text) returns text
language sql volatile parallel safe
as $$
  select prefix || '_' || lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
$$;
comment on function collecta.new_id(text) is
  'A time-ordered, globally unique id such as rec_019ab3…: for a column default, default collecta.new_id(''rec'').';
--! EndIncluded functions/new_id.sql
--! Included functions/new_secret.sql
create or replace function collecta.new_secret() returns text
language sql volatile set search_path = ''
as $$
  select 'whsec_' || encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64')
$$;
comment on function collecta.new_secret() is 'whsec_ and 32 random bytes in base64 (366 random bits, hashed).';

create or replace function collecta.rotate_secret(endpoint_id text, overlap interval default '24 hours') returns text
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  fresh constant text := collecta.new_secret();
begin
  perform collecta.check_endpoint_id(rotate_secret.endpoint_id);
  if overlap is null or overlap < interval '0' or overlap > interval '90 days' then
    raise exception using errcode = 'CW016', message = format('the overlap cannot be %s', coalesce(overlap::text, 'null')),
      detail = 'It is how long receivers have to change over.', hint = 'Between ''0'' (after a leak) and ''90 days''.';
  end if;
  update collecta.endpoint_secrets s
  set secret = fresh,
    previous_secret = case when overlap > interval '0' then s.secret end,
    previous_until = case when overlap > interval '0' then now() + overlap end
  where s.endpoint_id = rotate_secret.endpoint_id;
  return fresh;
end
$$;
comment on function collecta.rotate_secret(text, interval) is
  'Gives an endpoint a new secret and returns it. Until the overlap ends webhook-signature carries a signature by each, X-Webhook-Signature one by the old secret. overlap => ''0'' after a leak: the old one signs nothing more.';
--! EndIncluded functions/new_secret.sql
--! Included functions/wake_runner.sql
-- What a writer's capture ends with, for the functions that queue something themselves: NOTIFY only if a runner sleeps
-- (it then holds the lock exclusively), so that a busy database pays nothing for it.
create or replace function collecta.wake_runner() returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if not pg_try_advisory_xact_lock_shared(1668246636, 1) and collecta.notifies() then
    perform pg_notify('collecta_wake', '');
  end if;
end
$$;
comment on function collecta.wake_runner() is 'Wakes a sleeping runner at commit.';

create or replace function collecta.notifies() returns boolean
language sql stable security definer set search_path = ''
as $$
  select coalesce(
    nullif(current_setting('collecta.notify', true), '') <> 'off',
    (select notify from collecta.settings),
    current_setting('max_prepared_transactions')::int = 0)
$$;
comment on function collecta.notifies() is
  'Whether writers may NOTIFY: collecta.notify of the session, else settings.notify, else not where prepared transactions are possible.';
--! EndIncluded functions/wake_runner.sql
--! Included functions/check_installation.sql
create or replace function collecta.check_installation(environment text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  known collecta.installation;
begin
  select * into known from collecta.installation;
  if known.system_identifier = (select c.system_identifier from pg_control_system() c)
     and known.database_oid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()) then
    if known.environment is null and environment is not null then
      update collecta.installation i set environment = check_installation.environment where i.environment is null;
      return;
    end if;
    if known.environment is not distinct from coalesce(environment, known.environment) then
      return;
    end if;
    raise exception using errcode = 'CW040', message = format('this database delivers for environment %L, this runner is of %L', known.environment, environment),
      detail = 'A physical copy of a database differs from its original by the label only; nothing is claimed.',
      hint = format('If this database is to deliver for it: select collecta.resume_after_restore(%L);', environment);
  end if;
  raise exception using errcode = 'CW040', message = 'this database is a copy: collecta was installed in another one',
    detail = 'After a restore, a clone or pg_upgrade nothing is claimed, so that a copy does not send its original''s webhooks.',
    hint = 'If this database is to deliver now: select collecta.resume_after_restore(); to drop what is queued first: delete from collecta.delivery_queue; delete from collecta.outbox;';
end
$$;
comment on function collecta.check_installation(text) is 'CW040 in a database that is a copy of the one collecta was installed in, or where the runner''s environment is another.';

create or replace function collecta.resume_after_restore(environment text default null) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update collecta.installation i
  set system_identifier = control.system_identifier, database_oid = d.oid,
    environment = coalesce(resume_after_restore.environment, i.environment), since = now()
  from pg_control_system() control, pg_catalog.pg_database d
  where d.datname = current_database();
  perform collecta.wake_runner();
end
$$;
comment on function collecta.resume_after_restore(text) is
  'Says that this database, restored or cloned or upgraded, is the one to deliver. Endpoints, queue and secrets are those of the original: look at them first.';
--! EndIncluded functions/check_installation.sql

--! Included functions/mask_escapes.sql
-- PostgreSQL's json functions refuse \u0000 and lone surrogates, which a json column may hold. With \u hidden as DEL u (and
-- DEL, which json does not escape, as DEL d), such a document can be taken apart and its pieces put together again, escapes
-- and all, digit for digit. E'' because these run under any session's standard_conforming_strings.
create or replace function collecta.mask_escapes(document json) returns json
language sql immutable parallel safe
as $$
  select case when strpos(document::text, E'\\u') = 0 and strpos(document::text, E'\x7f') = 0 then document
    else regexp_replace(replace(document::text, E'\x7f', E'\x7fd'), E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u', E'\\1\x7fu', 'g')::json end
$$;
create or replace function collecta.unmask_escapes(document text) returns text
language sql immutable parallel safe
as $$
  select case when strpos(document, E'\x7f') = 0 then document
    else replace(replace(document, E'\x7fu', E'\\u'), E'\x7fd', E'\x7f') end
$$;
comment on function collecta.mask_escapes(json) is 'Makes a document with \u escapes safe for json_each and ->.';
comment on function collecta.unmask_escapes(text) is 'Gives back the escapes that mask_escapes hid.';
--! EndIncluded functions/mask_escapes.sql
--! Included functions/pick_columns.sql
create or replace function collecta.pick_columns(document json, columns text[], keep boolean) returns json
language sql immutable parallel safe set search_path = ''
as $$
  select ('{' || coalesce(collecta.unmask_escapes(
      string_agg(to_json(key)::text || ':' || value::text, ',')), '') || '}')::json
  from json_each(collecta.mask_escapes(document))
  where (key = any (columns)) = keep
$$;
comment on function collecta.pick_columns(json, text[], boolean) is
  'A row with only these columns (keep), or without them, the rest text for text.';
--! EndIncluded functions/pick_columns.sql
--! Included functions/capture_large.sql
-- For rows of more than 4 kB as stored (compressed, so up to 255 times that). Written for each module, since rows of a transition
-- table are of type record: their columns can only be named in a function's text. What the names do not fit any more (a column
-- was renamed) is caught: none of this may fail the user's statement.
create or replace function collecta.write_large_capture(module collecta.module_versions) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  written constant text := format('capture_%s_large', module.module_id);
  thin constant text[] := module.key_columns || module.status_column || module.scope_column;
  body text;
begin
  body := format('declare
  size_limit constant int := (select max_record_bytes from collecta.settings);
  size bigint;
  document json;
  custom_data_changed boolean := false;
begin
  if pg_column_size(captured) <= 65536 then
    document := row_to_json(captured);
    if octet_length(document::text) <= size_limit then
      return document;
    end if;
  end if;
  begin
    -- octet_length of text and bytea reads the length without decompressing.
    size := %s;
  exception when others then
    null;
  end;
  begin
    if size is null or size <= size_limit then
      document := row_to_json(captured);
      if octet_length(document::text) <= 2 * size_limit::bigint then
        return document;
      end if;
    end if;
  exception when others then
    null; -- too large to be written down at all
  end;
  begin
    custom_data_changed := %s;
  exception when others then
    null;
  end;
  select row_to_json(t) into document from (select %s, true as "$truncated", custom_data_changed as "$custom_data_changed") t;
  return document;
exception when others then
  return ''{"$truncated":true}'';
end',
    (select coalesce(string_agg(format(
        case when a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype)
          then 'coalesce(octet_length(captured.%I), 0)::bigint' else 'coalesce(pg_column_size(captured.%I), 0)::bigint' end,
        a.attname), ' + '), '0')
     from pg_catalog.pg_attribute a
     where a.attrelid = module.relation and a.attnum > 0 and not a.attisdropped and a.attlen = -1 and a.attgenerated <> 'v'
       and a.attnum <> all (module.excluded_attnums)),
    -- Cast, or it is parsed as a row comparison, which *<> is not.
    case when module.custom_data_column is null then 'false'
      else format('row(captured.%1$I)::record *<> row(other.%1$I)::record', module.custom_data_column) end,
    (select string_agg(distinct format('captured.%1$I as %1$I', c), ', ') from unnest(thin) c where c is not null));
  if not exists (select from pg_catalog.pg_proc p
                 where p.pronamespace = 'collecta'::regnamespace and p.proname = written and p.prosrc = body) then
    execute format('create or replace function collecta.%I(captured record, other record) returns json language plpgsql stable as %L', written, body);
    perform collecta.own_function(format('collecta.%I(record, record)', written)::regprocedure, 'collecta_capture');
  end if;
end
$$;
comment on function collecta.write_large_capture(collecta.module_versions) is
  'Writes the function that captures a module''s large rows: whole up to settings.max_record_bytes, else thin (key, scope, status, whether custom_data changed).';
--! EndIncluded functions/capture_large.sql
--! Included functions/own_function.sql
-- A written function runs the user's casts, checks and triggers with its owner's rights: so its owner is a NOLOGIN role that
-- can do that one thing and read no secret. A new owner needs CREATE on the schema only while it becomes one.
create or replace function collecta.own_function(function_id regprocedure, owner_name text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
  execute format('revoke all on function %s from public', function_id);
  if to_regrole(owner_name) is not null and pg_has_role(current_user, owner_name, 'usage')
     and (select p.proowner <> to_regrole(owner_name)::oid from pg_catalog.pg_proc p where p.oid = function_id) then
    execute format('grant create on schema collecta to %I', owner_name);
    execute format('alter function %s owner to %I', function_id, owner_name);
    execute format('revoke create on schema collecta from %I', owner_name);
  end if;
end
$$;
comment on function collecta.own_function(regprocedure, text) is 'Hands a written function to its least-privileged owner, where that role exists.';
--! EndIncluded functions/own_function.sql
--! Included functions/write_capture_functions.sql
-- Writes a module's capture functions: static SQL, and an empty body for an operation that nobody subscribes to. They name
-- no column of the table (whole rows, paired by position), so a column that is added, renamed or dropped cannot fail the
-- user's statement. CREATE OR REPLACE locks no table: functions are swapped under running writers.
create or replace function collecta.write_capture_functions(module_id int) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  module record;
  subscribed text[];
  -- In the function's definer context a whole row must be named by an alias that no column of the table has.
  insert_from constant text := 'from new_rows "collecta new"';
  delete_from constant text := 'from old_rows "collecta old"';
  -- FULL JOIN, since an inner one's cached plan for a few rows is a nested loop for many: nothing strict may stand above it.
  -- coalesce(x.*) is the row even where a column has the alias's name.
  pairs constant text :=
    'from (select coalesce("collecta old".*) as r, row_number() over () as position from old_rows "collecta old") o
      full join (select coalesce("collecta new".*) as r, row_number() over () as position from new_rows "collecta new") n
        on n.position = o.position';
  pairs_by_key text;
  key_of text;
  omitted smallint[];
  declares text;
  wake text;
  bodies text[];
  operation text;
  body text;
  changed text := '';
begin
  -- Two sessions that replace one function at the same moment would fail with "tuple concurrently updated".
  perform pg_advisory_xact_lock(1668246636, 5);
  -- Under REPEATABLE READ the subscriptions that we see may be old: then this raises a serialization failure.
  update collecta.modules m set attached_at = m.attached_at where m.module_id = write_capture_functions.module_id;
  select v.*, c.relkind into module
  from collecta.modules m
  join collecta.module_versions v on v.version = m.current_version
  left join pg_catalog.pg_class c on c.oid = m.relation
  where m.module_id = write_capture_functions.module_id;
  if not found then
    return;
  end if;
  select coalesce(array_agg(distinct event), '{}') into subscribed
  from collecta.subscriptions s where s.module_id = write_capture_functions.module_id;
  -- By number, so that a renamed column stays excluded; virtual generated columns have no stored value to see.
  select array_agg(a.attnum) into omitted
  from pg_catalog.pg_attribute a
  where a.attrelid = module.relation and not a.attisdropped
    and (a.attgenerated = 'v' or a.attnum = any (module.excluded_attnums));

  key_of := (select 'array[' || string_agg(format('(collecta.mask_escapes(row_to_json(%%1$s)) ->> %L)', k), ', ') || ']'
             from unnest(module.key_columns) k);
  pairs_by_key := replace(pairs, 'n.position = o.position', format(key_of, 'n.r') || ' = ' || format(key_of, 'o.r'));
  -- A column of the table may have a variable's name.
  declares := format(
    '#variable_conflict use_variable
declare
  stamp constant timestamptz := clock_timestamp();
  context constant text := nullif(current_setting(''collecta.context'', true), '''');%s',
    case when omitted is not null then format('
  omitted constant text[] := (select array_agg(attname) from pg_catalog.pg_attribute
    where attrelid = %s and attnum = any (%L) and not attisdropped);', module.relation, omitted) else '' end);
  wake := format(
    'if found and not pg_try_advisory_xact_lock_shared(1668246636, 1)%s then
    perform pg_notify(''collecta_wake'', '''');
  end if;
  return null;',
    case
      when coalesce((select notify from collecta.settings), current_setting('max_prepared_transactions')::int = 0)
        then ' and coalesce(current_setting(''collecta.notify'', true), '''') <> ''off'''
      else ' and coalesce(current_setting(''collecta.notify'', true), '''') = ''on'''
    end);

  perform collecta.write_large_capture(v) from collecta.module_versions v where v.version = module.version;
  foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
    body := null;
    if operation = 'insert' and subscribed && array['record_created'] then
      body := format('insert into collecta.outbox (version, operation, new, captured_at, context)
    select %s, ''I'', %s, stamp, context %s;',
        module.version, collecta.captured_json('"collecta new".*', '"collecta new".*', module.module_id, omitted), insert_from);
    elsif operation = 'delete' and subscribed && array['record_deleted'] then
      body := format('insert into collecta.outbox (version, operation, old, captured_at, context)
    select %s, ''D'', %s, stamp, context %s;',
        module.version, collecta.captured_json('"collecta old".*', '"collecta old".*', module.module_id, omitted), delete_from);
    elsif operation = 'update' and subscribed <> '{}' then
      if not subscribed && (array['record_updated']
           || case when module.status_column is not null then 'status_change' end
           || case when module.custom_data_column is not null then 'custom_data_updated' end) then
        -- Only a changed key, which is a delete and a create, means anything to anybody.
        changed := format(' and %s is distinct from %s', format(key_of, 'o.r'), format(key_of, 'n.r'));
      end if;
      body := format('insert into collecta.outbox (version, operation, old, new, captured_at, context)
    select %s, ''U'', %s, %s, stamp, context
    %s
    where (o.r *<> n.r) is not false%s
    order by o.position;',
        module.version,
        collecta.captured_json('o.r', 'n.r', module.module_id, omitted),
        collecta.captured_json('n.r', 'o.r', module.module_id, omitted), pairs, changed);
      if module.relkind = 'p' then
        -- A partition's BEFORE INSERT trigger that drops a moved row leaves more old rows than new ones.
        body := format('if (select count(*) from old_rows) = (select count(*) from new_rows) then
    %s
  else
    insert into collecta.outbox (version, operation, old, new, captured_at, context)
    select %s, case when o.position is null then ''I'' when n.position is null then ''D'' else ''U'' end,
      case when o.position is not null then %s end, case when n.position is not null then %s end, stamp, context
    %s
    where o.r *<> n.r or o.position is null or n.position is null
    order by coalesce(o.position, n.position);
  end if;', body, module.version,
          collecta.captured_json('o.r', 'n.r', module.module_id, omitted),
          collecta.captured_json('n.r', 'o.r', module.module_id, omitted), pairs_by_key);
      end if;
    elsif operation = 'truncate' and module.on_truncate = 'refuse' then
      body := format('raise exception using errcode = ''CW030'',
    message = format(''TRUNCATE of %%s is refused: it is attached as module %%s with on_truncate => ''''refuse'''''', tg_relid::regclass, %L),
    detail = ''TRUNCATE deletes every record at once; subscribers of record_deleted would not be told of each.'',
    hint = ''delete from the table instead, or attach it with on_truncate => ''''records'''' or ''''ignore''''.'';', module.slug);
    elsif operation = 'truncate' and module.on_truncate = 'records' and subscribed && array['record_deleted'] then
      declares := declares || '
  truncated bigint;
  most constant int := (select max_truncate_records from collecta.settings);';
      body := format('execute format(''select count(*) from only %%s'', tg_relid::regclass) into truncated;
  if truncated <= most then
    execute format(''insert into collecta.outbox (version, operation, old, captured_at, context)
      select %s, ''''D'''', %s, $1, $2 from only %%s "collecta old"'', tg_relid::regclass) using stamp, context%s;
  else
    insert into collecta.outbox (version, operation, new, captured_at, context)
    values (%s, ''T'', json_build_object(''count'', truncated), stamp, context);
  end if;',
        module.version, replace(replace(collecta.captured_json('"collecta old".*', '"collecta old".*', module.module_id, omitted),
          '''', ''''''), 'omitted', '$3'),
        case when omitted is not null then ', omitted' else '' end, module.version);
    end if;

    if body is null then
      body := 'begin
  return null;
end';
    else
      if operation = 'truncate' and module.on_truncate = 'refuse' then
        body := format(E'begin\n  %s\nend', body);
      else
        body := format('%s
begin
  if current_setting(''collecta.muted'', true) = ''on'' then
    insert into collecta.outbox (version, operation, new, captured_at, context)
    select %s, ''M'', json_build_object(''operation'', ''%s'', ''records'', records), stamp, context from %s where records > 0;
    return null;
  end if;
  %s
  %s
end', declares, module.version, operation,
          case operation when 'truncate' then '(values (1)) t (records)'
            else format('(select count(*) as records from %s_rows) t', case operation when 'delete' then 'old' else 'new' end) end,
          body, case when operation = 'truncate' then replace(wake, 'found and ', '') else wake end);
      end if;
    end if;
    -- Ten thousand endpoints on one module change nothing after the first.
    continue when exists (
      select from pg_catalog.pg_proc p
      where p.pronamespace = 'collecta'::regnamespace and p.proname = format('capture_%s_%s', write_capture_functions.module_id, operation)
        and p.prosrc = body);
    execute format(
      -- pg_temp last: else a type that the writer makes there stands before pg_catalog's and runs with the owner's rights.
      'create or replace function collecta.%I() returns trigger language plpgsql volatile security definer
       set search_path = pg_catalog, pg_temp set "TimeZone" = ''UTC'' set "DateStyle" = ''ISO, YMD'' set "IntervalStyle" = ''postgres''
       set bytea_output = ''hex'' set extra_float_digits = 1%s
       as %L', format('capture_%s_%s', write_capture_functions.module_id, operation),
      case operation when 'truncate' then ' set row_security = on' else '' end, body);
    perform collecta.own_function(format('collecta.%I()', format('capture_%s_%s', write_capture_functions.module_id, operation))::regprocedure, 'collecta_capture');
  end loop;
end
$$;
comment on function collecta.write_capture_functions(int) is
  'Writes a module''s four capture functions anew; done by everything that changes what they depend on.';

create or replace function collecta.captured_json(row_expression text, other_expression text, module_id int, omitted smallint[]) returns text
language sql immutable set search_path = ''
as $$
  select format(case when omitted is null then '%s' else 'collecta.pick_columns(%s, omitted, false)' end,
    format('case when pg_column_size(%1$s) > 4096 then collecta.capture_%3$s_large(%1$s, %2$s) else row_to_json(%1$s) end',
      row_expression, other_expression, module_id))
$$;
comment on function collecta.captured_json(text, text, int, smallint[]) is 'The SQL expression that captures one row.';
--! EndIncluded functions/write_capture_functions.sql
--! Included functions/check_module.sql
create or replace function collecta.check_module(
  relation regclass, slug text, status_column text, custom_data_column text, scope_column text,
  exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text
) returns text[]
language plpgsql stable set search_path = ''
as $$
declare
  class pg_catalog.pg_class;
  keys text[];
  why text;
  wrong text;
  configured text[];
  capturer name;
begin
  if relation is null or slug is null then
    raise exception using errcode = 'CW002', message = 'attach_module needs a table and a slug',
      detail = 'One of them is null.', hint = 'select collecta.attach_module(''public.work_orders'', ''work-orders'');';
  end if;
  if slug !~ '^[a-z0-9][a-z0-9_-]{0,62}$' then
    raise exception using errcode = 'CW006', message = format('%L is no slug', slug),
      detail = 'A slug is 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or digit.',
      hint = format('select collecta.attach_module(%L, %L);', relation,
        coalesce(nullif(btrim(left(regexp_replace(lower(slug), '[^a-z0-9_]+', '-', 'g'), 63), '-_'), ''), 'work-orders'));
  end if;
  select * into class from pg_catalog.pg_class c where c.oid = relation;
  why := case
    when class.relkind not in ('r', 'p') then 'it is no table but a ' || case class.relkind when 'v' then 'view' when 'm' then 'materialized view'
      when 'f' then 'foreign table' when 'i' then 'index' when 'S' then 'sequence' else 'relation of another kind' end || ', on which no statement trigger sees rows'
    when class.relpersistence = 't' then 'it is temporary'
    when class.relnamespace in ('pg_catalog'::regnamespace, 'collecta'::regnamespace, 'information_schema'::regnamespace) then 'it is a system table'
    when exists (select from pg_catalog.pg_inherits i where i.inhparent = relation and class.relkind = 'r')
      then 'it has inheritance children, whose rows fire nothing of the parent'
    when exists (select from pg_catalog.pg_inherits i where i.inhrelid = relation and not class.relispartition)
      then 'it inherits from another table'
    when exists (select from pg_catalog.pg_subscription_rel s
                 where s.srrelid in (select relation union select p.relid from pg_catalog.pg_partition_tree(relation) p))
      then 'logical replication writes it, and its apply fires no statement trigger'
    when class.relispartition then 'it is a partition: what is written through its parent fires nothing of it'
    when exists (select from collecta.modules m where m.relation <> check_module.relation
                 and m.relation in (select p.relid from pg_catalog.pg_partition_tree(check_module.relation) p))
      then 'one of its partitions is attached already'
  end;
  if why is not null then
    raise exception using errcode = 'CW002', message = format('%s cannot be attached', relation), detail = format('Because %s.', why),
      hint = case
        when class.relkind in ('v', 'm') then 'Attach the table under it: select collecta.attach_module(''schema.table'', ''slug'');'
        when why like 'logical replication%' then 'Attach it where it is written, on the publisher.'
        when why like 'it is a partition%' then format('select collecta.attach_module(%L, %L);', pg_partition_root(relation), slug)
        when why like 'one of its partitions%' then (
          select string_agg(format('select collecta.detach_module(%L);', m.slug), ' ')
          from collecta.modules m join pg_catalog.pg_partition_tree(check_module.relation) p on p.relid = m.relation)
        else 'Attach another table: select collecta.attach_module(''schema.table'', ''slug'');' end;
  end if;
  select format('%L is attached as module %L', m.relation, m.slug) into why
  from collecta.modules m
  where (m.slug = check_module.slug) <> (m.relation = check_module.relation);
  if found then
    raise exception using errcode = 'CW005', message = format('%s and slug %L cannot be combined', relation, slug),
      detail = why || '; a table has one slug and a slug one table.',
      hint = format('select collecta.detach_module(%L); first, or choose another slug.',
        (select m.slug from collecta.modules m where (m.slug = check_module.slug) <> (m.relation = check_module.relation) limit 1));
  end if;
  if on_truncate is null or on_truncate not in ('records', 'ignore', 'refuse') then
    raise exception using errcode = 'CW004', message = format('on_truncate cannot be %L', on_truncate),
      detail = 'records: a record_deleted for each; ignore: nothing; refuse: TRUNCATE fails.', hint = 'on_truncate => ''records'', ''ignore'' or ''refuse''.';
  end if;

  -- The key: the primary key, or a named unique one that is checked at once and holds no null. A deferrable key lets a create
  -- be captured before the delete that made room for it.
  select array_agg(a.attname order by k.ordinality) into keys
  from pg_catalog.pg_index i
  cross join lateral unnest(i.indkey::int2[]) with ordinality k (attnum, ordinality)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = relation and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
    and k.ordinality <= i.indnkeyatts
  group by i.indexrelid, i.indisprimary
  having bool_and(a.attnotnull)
    and case when check_module.key_columns is null then i.indisprimary
        else array_agg(a.attname::text order by a.attname) = (select array_agg(u order by u collate "C") from unnest(check_module.key_columns) u) end
  limit 1;
  if keys is null then
    raise exception using errcode = 'CW003',
      message = case when key_columns is null then format('%s has no primary key to tell its records apart', relation)
        else format('(%s) is no key of %s', array_to_string(key_columns, ', '), relation) end,
      detail = case when exists (select from pg_catalog.pg_index i where i.indrelid = relation and i.indisunique and not i.indimmediate)
        then 'A deferrable key does not do: a create could be captured before the delete that made room for it. ' else '' end
        || 'A key is a unique constraint or index over columns that are not null, not partial and not deferrable.',
      hint = coalesce(
        (select format('select collecta.attach_module(%L, %L, key_columns => %L);', relation, slug, array_agg(a.attname::text))
         from pg_catalog.pg_index i
         cross join lateral unnest(i.indkey::int2[]) k (attnum)
         join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
         where i.indrelid = relation and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
         group by i.indexrelid having bool_and(a.attnotnull) limit 1),
        format('alter table %s add primary key (…);', relation));
  end if;
  if key_columns is not null then
    keys := key_columns;
  end if;

  configured := keys || status_column || custom_data_column || scope_column;
  select string_agg(format('%I', c), ', ') into wrong
  from unnest(configured || exclude_columns || ignore_columns) c
  where c is not null and not exists (
    select from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = c and a.attnum > 0 and not a.attisdropped);
  if wrong is not null then
    raise exception using errcode = 'CW004', message = format('%s has no column %s', relation, wrong),
      detail = format('Its columns: %s.', (select string_agg(a.attname, ', ' order by a.attnum) from pg_catalog.pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped)),
      hint = format('\d %s', relation);
  end if;
  select string_agg(format('%I', c), ', ') into wrong from unnest(configured) c where c = any (exclude_columns);
  if wrong is not null then
    raise exception using errcode = 'CW004', message = format('column %s is configured and excluded at once', wrong),
      detail = 'Key, status, custom data and scope columns are needed to route a change.',
      hint = 'Take it out of exclude_columns.';
  end if;
  select string_agg(format('%I', a.attname), ', ') into wrong
  from pg_catalog.pg_attribute a
  where a.attrelid = relation and a.attgenerated = 'v' and a.attname = any (configured);
  if wrong is not null then
    raise exception using errcode = 'CW004', message = format('virtual generated column %s cannot be configured', wrong),
      detail = 'A trigger sees no value of it.', hint = 'Make it a stored generated column, or name another.';
  end if;
  select string_agg(format('%I', a.attname), ', ') into wrong
  from pg_catalog.pg_attribute a where a.attrelid = relation and a.attgenerated = 'v' and not a.attisdropped;
  if wrong is not null then
    raise notice 'collecta: virtual generated column % is left out of payloads: a trigger sees no value of it', wrong;
  end if;

  if on_truncate = 'records' then
    capturer := collecta.capturing_role();
    select string_agg(c.oid::regclass::text, ', ') into wrong
    from (select relation::oid as relid union select p.relid from pg_catalog.pg_partition_tree(relation) p) tree
    join pg_catalog.pg_class c on c.oid = tree.relid
    where c.relrowsecurity
      and not (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles r where r.rolname = capturer)
      and not (pg_has_role(capturer, c.relowner, 'usage') and not c.relforcerowsecurity)
      and (exists (select from pg_catalog.pg_policy p where p.polrelid = c.oid and not p.polpermissive and p.polcmd in ('r', '*'))
        or not exists (
          select from pg_catalog.pg_policy p
          where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')
            and (p.polroles = '{0}' or (select r.oid from pg_catalog.pg_roles r where r.rolname = capturer) = any (p.polroles))
            and pg_get_expr(p.polqual, p.polrelid) = 'true'));
    if wrong is not null then
      raise exception using errcode = 'CW002', message = format('TRUNCATE of %s could not be captured: row security hides records from %s', wrong, capturer),
        detail = 'The capturing function reads the table before TRUNCATE, and must see every record.',
        hint = format('create policy collecta_capture_reads on %s for select to %I using (true); or attach it with on_truncate => ''ignore''.', relation, capturer);
    end if;
  end if;
  return keys;
end
$$;
comment on function collecta.check_module(regclass, text, text, text, text, text[], text[], text[], text) is
  'Refuses what attach_module cannot capture, each with its hint; returns the key''s columns.';

create or replace function collecta.capturing_role() returns name
language sql stable security definer set search_path = ''
as $$
  select case when to_regrole('collecta_capture') is not null and pg_has_role(current_user, 'collecta_capture', 'usage')
    then 'collecta_capture' else current_user end
$$;
comment on function collecta.capturing_role() is 'Who owns the capture functions: see own_function.';
--! EndIncluded functions/check_module.sql
--! Included functions/save_module.sql
create or replace function collecta.save_module(
  relation regclass, slug text, status_column text, custom_data_column text, scope_column text,
  exclude_columns text[], ignore_columns text[], key_columns text[], on_truncate text
) returns int
language plpgsql volatile security definer set search_path = ''
as $$
declare
  saved int;
begin
  -- As in subscribe_endpoint: an endpoint of all modules that is being made sees this module, or this sees the endpoint.
  perform pg_advisory_xact_lock(1668246636, 5);
  insert into collecta.modules as m (slug, relation) values (save_module.slug, save_module.relation)
  on conflict on constraint modules_slug_is_unique do update set attached_at = now()
  returning m.module_id into saved;
  with made as (
    insert into collecta.module_versions (module_id, slug, relation, key_columns, status_column, custom_data_column, scope_column,
      exclude_columns, ignore_columns, on_truncate, excluded_attnums)
    select saved, slug, relation, key_columns, status_column, custom_data_column, scope_column,
      coalesce(exclude_columns, '{}'), coalesce(ignore_columns, '{}'), on_truncate,
      coalesce(array_agg(a.attnum), '{}')
    from pg_catalog.pg_attribute a
    where a.attrelid = save_module.relation and a.attnum > 0 and not a.attisdropped
      and a.attname = any (exclude_columns)
    returning version)
  update collecta.modules m set current_version = made.version from made where m.module_id = saved;
  insert into collecta.subscriptions (module_id, event, endpoint_id, scope, after_change_id)
  select saved, event, e.endpoint_id, e.scope, e.after_change_id
  from collecta.endpoints e cross join lateral unnest(e.events) event
  where e.state <> 'deleted' and (e.modules is null or save_module.slug = any (e.modules))
  on conflict do nothing;
  perform collecta.write_capture_functions(saved);
  return saved;
end
$$;
comment on function collecta.save_module(regclass, text, text, text, text, text[], text[], text[], text) is
  'attach_module''s part in collecta''s own tables: a new version of the module, its subscriptions, its capture functions.';

create or replace function collecta.forget_module(module_id int) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  task text;
begin
  perform pg_advisory_xact_lock(1668246636, 5);
  delete from collecta.modules m where m.module_id = forget_module.module_id;
  foreach task in array array['insert', 'update', 'delete', 'truncate'] loop
    execute format('drop function if exists collecta.%I()', format('capture_%s_%s', forget_module.module_id, task));
  end loop;
  execute format('drop function if exists collecta.%I(record, record)', format('capture_%s_large', forget_module.module_id));
end
$$;
comment on function collecta.forget_module(int) is 'detach_module''s part in collecta''s own tables. Subscriptions stay until the module''s last change is routed.';
--! EndIncluded functions/save_module.sql
--! Included functions/attach_module.sql
create or replace function collecta.attach_module(
  relation regclass,
  slug text,
  status_column text default null,
  custom_data_column text default null,
  scope_column text default null,
  exclude_columns text[] default '{}',
  ignore_columns text[] default '{}',
  key_columns text[] default null,
  on_truncate text default 'records'
) returns int
language plpgsql volatile set search_path = ''
as $$
declare
  keys text[] := collecta.check_module(relation, slug, status_column, custom_data_column, scope_column,
                                       exclude_columns, ignore_columns, key_columns, on_truncate);
  saved int;
  member record;
  task text;
begin
  saved := collecta.save_module(relation, slug, status_column, custom_data_column, scope_column,
                                exclude_columns, ignore_columns, keys, on_truncate);
  -- A row written directly to a partition fires no trigger of the parent, and TRUNCATE fires those of parent and leaves alike:
  -- so every member of the tree has the three, and the leaves alone have TRUNCATE's.
  for member in
    select tree.relid as member_of, c.relkind
    from (select relation::oid as relid union select p.relid from pg_catalog.pg_partition_tree(relation) p) tree
    join pg_catalog.pg_class c on c.oid = tree.relid
    where c.relkind in ('r', 'p')
  loop
    foreach task in array array['insert', 'update', 'delete', 'truncate'] loop
      continue when task = 'truncate' and member.relkind = 'p';
      if task = 'truncate' and on_truncate = 'records' then
        perform collecta.let_capture_read(member.member_of);
      end if;
      execute format('create or replace trigger collecta_capture_%1$s %2$s %1$s on %3$s %4$s for each statement execute function collecta.%5$I()',
        task, case task when 'truncate' then 'before' else 'after' end, member.member_of::regclass,
        case task
          when 'insert' then 'referencing new table as new_rows'
          when 'update' then 'referencing old table as old_rows new table as new_rows'
          when 'delete' then 'referencing old table as old_rows'
          else '' end,
        format('capture_%s_%s', saved, task));
    end loop;
  end loop;
  return saved;
end
$$;
comment on function collecta.attach_module(regclass, text, text, text, text, text[], text[], text[], text) is
  'Makes a table a module: its changes become events under this slug. Needs TRIGGER on the table. The same table and slug again updates it (after a rename, for new partitions). status_column and custom_data_column make status_change and custom_data_updated; scope_column is what an endpoint''s scope is compared with; exclude_columns are never captured; a change of ignore_columns alone is none; key_columns name a unique, not null key instead of the primary key; on_truncate is records, ignore or refuse. Returns the module''s number. Errors CW002 to CW006 say what to do.';

create or replace function collecta.let_capture_read(relation regclass) returns void
language plpgsql volatile set search_path = ''
as $$
declare
  capturer constant name := collecta.capturing_role();
  namespace constant regnamespace := (select c.relnamespace from pg_catalog.pg_class c where c.oid = relation);
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
  if not (has_schema_privilege(capturer, namespace, 'usage') and has_table_privilege(capturer, relation, 'select')) then
    raise exception using errcode = 'CW002', message = format('%s may not read %s', capturer, relation),
      detail = 'TRUNCATE''s records are read before they are gone; without SELECT the TRUNCATE itself would fail.',
      hint = format('As their owner: grant usage on schema %s to %I; grant select on %s to %2$I; or attach it with on_truncate => ''ignore''.',
        namespace, capturer, relation);
  end if;
end
$$;
comment on function collecta.let_capture_read(regclass) is 'Grants what capturing TRUNCATE needs, as the caller of attach_module.';

create or replace function collecta.detach_module(slug text) returns void
language plpgsql volatile set search_path = ''
as $$
declare
  module collecta.modules;
  member oid;
  task text;
begin
  select * into module from collecta.modules m where m.slug = detach_module.slug for update;
  if not found then
    raise exception using errcode = 'CW001', message = format('there is no module %L', slug),
      detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m), 'No table is attached.'),
      hint = 'select slug, relation from collecta.modules;';
  end if;
  for member in
    select c.oid
    from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
    where t.tgfoid in (select p.oid from pg_catalog.pg_proc p
                       where p.pronamespace = 'collecta'::regnamespace and p.proname ~ format('^capture_%s_(insert|update|delete|truncate)$', module.module_id))
    group by c.oid
  loop
    foreach task in array array['insert', 'update', 'delete', 'truncate'] loop
      execute format('drop trigger if exists collecta_capture_%s on %s', task, member::regclass);
    end loop;
  end loop;
  perform collecta.forget_module(module.module_id);
end
$$;
comment on function collecta.detach_module(text) is
  'Takes the triggers off a module''s table (needs its ownership) and forgets the module. What was captured still routes; history stays.';
--! EndIncluded functions/attach_module.sql

--! Included functions/check_endpoint.sql
create or replace function collecta.check_endpoint_id(endpoint_id text) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not exists (select from collecta.endpoints e where e.endpoint_id = check_endpoint_id.endpoint_id and e.state <> 'deleted') then
    raise exception using errcode = 'CW010', message = format('there is no endpoint %L', endpoint_id),
      detail = case when exists (select from collecta.endpoints e where e.endpoint_id = check_endpoint_id.endpoint_id)
        then 'It was deleted.' else 'No endpoint ever had this id.' end,
      hint = 'select endpoint_id, name, url from collecta.endpoints where state <> ''deleted'';';
  end if;
end
$$;
comment on function collecta.check_endpoint_id(text) is 'CW010 unless the endpoint exists.';

create or replace function collecta.check_endpoint(
  url text, events text[], modules text[], secret text, filter text, payload_role text, headers jsonb
) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  known constant text[] := array['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated'];
  wrong text;
begin
  wrong := case
    when url is null then 'it is null'
    when length(url) > 2048 then 'it is longer than 2048 characters'
    when url !~ '^https?://' then 'it does not begin with https:// or http://'
    when url ~ '[[:space:][:cntrl:]\\]' then 'it holds white space or a backslash'
    when url ~ '#' then 'it has a fragment (#…), which is never sent'
    when url ~ '^https?://[^/?]*@' then 'it holds a user name or password'
    when url !~ '^https?://[^/?]' then 'it names no host'
    when url !~ '^https?://([^/?:\[\]%<>^|"`{}]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?].*)?$'
      or substring(url from '^https?://[^/?]*:([0-9]{1,5})(?:[/?]|$)')::int > 65535 then 'its host or port is malformed'
  end;
  if wrong is not null then
    raise exception using errcode = 'CW011', message = 'this is no URL for an endpoint', detail = format('The URL cannot be used: %s.', wrong),
      hint = 'Give it like https://hooks.example.com/orders; put credentials into headers => ''{"authorization": "…"}''.';
  end if;
  select string_agg(coalesce(quote_literal(e), 'null'), ', ') into wrong
  from unnest(events) e where e is null or e <> all (known);
  if wrong is not null or coalesce(events, '{}') = '{}' then
    raise exception using errcode = 'CW012', message = coalesce('unknown event ' || wrong, 'an endpoint needs at least one event'),
      detail = format('Events: %s.', array_to_string(known, ', ')), hint = 'events => ''{record_created,record_updated}''';
  end if;
  select string_agg(coalesce(quote_literal(m), 'null'), ', ') into wrong
  from unnest(modules) m where m is null or not exists (select from collecta.modules known where known.slug = m);
  if wrong is not null or modules = '{}' then
    raise exception using errcode = 'CW013', message = coalesce('unknown module ' || wrong, 'an empty list of modules subscribes to nothing'),
      detail = coalesce('Modules: ' || (select string_agg(m.slug, ', ' order by m.slug) from collecta.modules m), 'No table is attached.'),
      hint = 'modules => null is all modules; or attach the table: select collecta.attach_module(''schema.table'', ''slug'');';
  end if;
  if secret is not null and (secret = '' or length(secret) > 512 or secret ~ '[[:cntrl:]]'
      or secret ~ '^whsec_' and (secret !~ '^whsec_([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)$')) then
    raise exception using errcode = 'CW014', message = 'this secret cannot be used',
      detail = 'A secret is 1 to 512 printable characters; one that begins with whsec_ goes on in base64.',
      hint = 'Leave it out: a good one is generated and returned.';
  end if;
  if filter <> '' then
    begin
      perform filter::jsonpath;
    exception when others then
      raise exception using errcode = 'CW015', message = 'the filter is no SQL/JSON path', detail = sqlerrm,
        hint = 'A predicate over the payload: filter => ''$.record.quantity > 10''';
    end;
  end if;
  if payload_role <> '' and to_regrole(quote_ident(payload_role)) is null then
    raise exception using errcode = 'CW016', message = format('there is no role %L', payload_role),
      detail = 'The payload keeps the columns that this role may select.', hint = format('create role %I nologin; grant select (…) on … to %I;', payload_role, payload_role);
  end if;
  if jsonb_typeof(headers) is distinct from 'object' then
    raise exception using errcode = 'CW016', message = 'headers must be an object of strings',
      detail = format('This is %s.', coalesce('JSON of type ' || jsonb_typeof(headers), 'null')), hint = 'headers => ''{"authorization": "Bearer …"}''';
  end if;
  select string_agg(quote_literal(h.key), ', ') into wrong
  from jsonb_each(headers) h
  where h.key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,128}$'
    or lower(h.key) ~ '^(host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|http2-settings|webhook-.*|x-webhook-signature|user-agent|accept-encoding)$'
    or jsonb_typeof(h.value) <> 'string' or (h.value #>> '{}') !~ '^[\x20-\x7e\t]*$' or length(h.value #>> '{}') > 4096;
  if wrong is not null then
    raise exception using errcode = 'CW016', message = format('header %s cannot be set', wrong),
      detail = 'Names are HTTP tokens and none of those the runner sets itself or that belong to one connection (Host, Content-*, Transfer-Encoding, Connection, the signature''s …); values are strings of printable ASCII without line breaks.',
      hint = 'headers => ''{"authorization": "Bearer …"}''';
  end if;
end
$$;
comment on function collecta.check_endpoint(text, text[], text[], text, text, text, jsonb) is
  'Refuses, each with its hint, what an endpoint cannot have. It looks at a URL''s shape only: where it leads is the runner''s to judge.';
--! EndIncluded functions/check_endpoint.sql
--! Included functions/subscribe_endpoint.sql
-- Writes out an endpoint's subscriptions and swaps the capture functions of the modules for which that changes something.
create or replace function collecta.subscribe_endpoint(endpoint_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  affected int[];
begin
  -- Subscriptions and the functions written from them change together, one session at a time.
  perform pg_advisory_xact_lock(1668246636, 5);
  with wanted as (
    select m.module_id, event, e.endpoint_id, e.scope
    from collecta.endpoints e
    cross join lateral unnest(e.events) event
    join collecta.modules m on e.modules is null or m.slug = any (e.modules)
    where e.endpoint_id = subscribe_endpoint.endpoint_id and e.state <> 'deleted'
    group by 1, 2, 3, 4
  ), gone as (
    delete from collecta.subscriptions s
    where s.endpoint_id = subscribe_endpoint.endpoint_id
      -- A detached module's last changes may not be routed yet.
      and exists (select from collecta.modules m where m.module_id = s.module_id)
      and not exists (select from wanted w where w.module_id = s.module_id and w.event = s.event)
    returning s.module_id
  ), made as (
    insert into collecta.subscriptions as s (module_id, event, endpoint_id, scope, after_change_id)
    select module_id, event, endpoint_id, scope, collecta.last_change_id() from wanted
    on conflict on constraint subscriptions_pkey do update set scope = excluded.scope
    returning s.module_id
  )
  select array_agg(distinct module_id) into affected
  from (select module_id from gone union all select module_id from made) m;
  perform collecta.write_capture_functions(module_id) from unnest(affected) module_id;
end
$$;
comment on function collecta.subscribe_endpoint(text) is 'Brings subscriptions and capture functions up to an endpoint''s events and modules.';

create or replace function collecta.last_change_id() returns bigint
language sql volatile security definer set search_path = ''
as $$
  select case when is_called then last_value else 0 end from collecta.outbox_change_id_seq
$$;
comment on function collecta.last_change_id() is 'The last change_id that was given out.';
--! EndIncluded functions/subscribe_endpoint.sql
--! Included functions/create_endpoint.sql
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
  max_in_flight int default 50
)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint(create_endpoint.url, create_endpoint.events, create_endpoint.modules, create_endpoint.secret,
    create_endpoint.filter, create_endpoint.payload_role, create_endpoint.headers);
  insert into collecta.endpoints as e (endpoint_id, name, url, events, modules, filter, scope, ordered, payload_role, headers,
    retry_max, retry_base, max_in_flight, after_change_id)
  values (collecta.new_id('ep'), create_endpoint.name, create_endpoint.url, create_endpoint.events, create_endpoint.modules,
    nullif(create_endpoint.filter, '')::jsonpath, create_endpoint.scope, create_endpoint.ordered, coalesce(create_endpoint.payload_role, ''),
    coalesce(create_endpoint.headers, '{}'), create_endpoint.retry_max, create_endpoint.retry_base, create_endpoint.max_in_flight,
    collecta.last_change_id())
  on conflict on constraint endpoints_name_is_unique do update
    set url = excluded.url, events = excluded.events, modules = excluded.modules, filter = excluded.filter, scope = excluded.scope,
      ordered = excluded.ordered, payload_role = excluded.payload_role, headers = excluded.headers,
      retry_max = excluded.retry_max, retry_base = excluded.retry_base, max_in_flight = excluded.max_in_flight
  returning e.endpoint_id into create_endpoint.endpoint_id;
  insert into collecta.endpoint_secrets as s (endpoint_id, secret)
  values (create_endpoint.endpoint_id, coalesce(create_endpoint.secret, collecta.new_secret()))
  on conflict on constraint endpoint_secrets_pkey do update
    set secret = coalesce(create_endpoint.secret, s.secret)
  returning s.secret into create_endpoint.secret;
  perform collecta.subscribe_endpoint(create_endpoint.endpoint_id);
end
$$;
comment on function collecta.create_endpoint(text, text[], text[], text, int, text, text, text, boolean, text, jsonb, interval, int) is
  'Makes a destination and returns its id and the secret in force (generated as whsec_… when not given; shown here and by rotate_secret only). events: record_created, record_updated, record_deleted, status_change, custom_data_updated. modules null: all, future ones included. A name makes the call idempotent: it updates and returns the endpoint of that name. filter: SQL/JSON path predicate over the payload, e.g. $.record.quantity > 10. headers: extra request headers. retry_base: wait after the first failure, doubled each time. Errors CW010 to CW016 say what to do.';

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
  all_modules boolean default false
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(update_endpoint.endpoint_id);
  perform collecta.check_endpoint(
    coalesce(update_endpoint.url, e.url), coalesce(update_endpoint.events, e.events), update_endpoint.modules, null,
    update_endpoint.filter, update_endpoint.payload_role, coalesce(update_endpoint.headers, e.headers))
  from collecta.endpoints e where e.endpoint_id = update_endpoint.endpoint_id;
  update collecta.endpoints e
  set url = coalesce(update_endpoint.url, e.url),
    events = coalesce(update_endpoint.events, e.events),
    modules = case when all_modules then null else coalesce(update_endpoint.modules, e.modules) end,
    retry_max = coalesce(update_endpoint.retry_max, e.retry_max),
    filter = case when update_endpoint.filter = '' then null else coalesce(update_endpoint.filter::jsonpath, e.filter) end,
    scope = case when update_endpoint.scope = '' then null else coalesce(update_endpoint.scope, e.scope) end,
    ordered = coalesce(update_endpoint.ordered, e.ordered),
    payload_role = coalesce(update_endpoint.payload_role, e.payload_role),
    headers = coalesce(update_endpoint.headers, e.headers),
    retry_base = coalesce(update_endpoint.retry_base, e.retry_base),
    max_in_flight = coalesce(update_endpoint.max_in_flight, e.max_in_flight)
  where e.endpoint_id = update_endpoint.endpoint_id;
  perform collecta.subscribe_endpoint(update_endpoint.endpoint_id);
end
$$;
comment on function collecta.update_endpoint(text, text, text[], text[], int, text, text, boolean, text, jsonb, interval, int, boolean) is
  'Changes what is given and leaves what is null. filter, scope and payload_role are taken away by ''''; modules by all_modules => true.';

create or replace function collecta.delete_endpoint(endpoint_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(delete_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'deleted', name = null where e.endpoint_id = delete_endpoint.endpoint_id;
  perform collecta.subscribe_endpoint(delete_endpoint.endpoint_id);
  delete from collecta.endpoint_secrets s where s.endpoint_id = delete_endpoint.endpoint_id;
  delete from collecta.unrouted u where u.endpoint_id = delete_endpoint.endpoint_id;
  -- What is in flight finishes and is recorded; a lease that lapses is swept by maintain().
  delete from collecta.delivery_queue q
  where q.endpoint_id = delete_endpoint.endpoint_id and (q.leased_until is null or q.leased_until < now());
end
$$;
comment on function collecta.delete_endpoint(text) is
  'Ends an endpoint: nothing more is queued or sent, its secret is gone; its row and its history stay.';
--! EndIncluded functions/create_endpoint.sql
--! Included functions/pause_endpoint.sql
create or replace function collecta.pause_endpoint(endpoint_id text, reason text default 'by request') returns void
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(pause_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'paused', paused_reason = coalesce(reason, 'by request')
  where e.endpoint_id = pause_endpoint.endpoint_id;
end
$$;
comment on function collecta.pause_endpoint(text, text) is 'Stops deliveries to an endpoint; it keeps queueing and nothing is dropped.';

create or replace function collecta.resume_endpoint(endpoint_id text) returns void
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform collecta.check_endpoint_id(resume_endpoint.endpoint_id);
  update collecta.endpoints e set state = 'active', paused_reason = null, failing_since = null
  where e.endpoint_id = resume_endpoint.endpoint_id;
  perform collecta.wake_runner();
end
$$;
comment on function collecta.resume_endpoint(text) is 'Takes deliveries to a paused endpoint up again, with what was queued meanwhile.';
--! EndIncluded functions/pause_endpoint.sql

--! Included functions/read_change.sql
-- Reads one captured change by its module's columns. A configured column that the captured row does not have was renamed:
-- the module's version in force may know it; else the change is unroutable until the module is attached again.
create or replace function collecta.read_change(
  module collecta.module_versions, operation "char", old json, new json,
  out module_id int, out slug text, out relation oid, out key_columns text[], out status_column text, out custom_data_column text,
  out ignore_columns text[], out scope text, out old_id text, out new_id text, out old_record text, out new_record text, out truncated boolean,
  out previous text, out counts boolean, out status_changed boolean, out custom_data_changed boolean,
  out status_from text, out status_to text, out unroutable text
)
language plpgsql stable set search_path = ''
as $$
declare
  captured_under constant int := module.version;
  safe_old json;
  safe_new json;
  captured json;
  missing text;
begin
  if captured_under is null then
    unroutable := 'the module version it was captured under is gone';
    return;
  end if;
  module_id := module.module_id;
  slug := module.slug;
  relation := module.relation;
  key_columns := module.key_columns;
  if operation in ('M', 'T') then
    truncated := false;
    return;
  end if;
  safe_old := collecta.mask_escapes(old);
  safe_new := collecta.mask_escapes(new);
  captured := coalesce(safe_new, safe_old);
  truncated := strpos(old::text, '"$truncated"') > 0 and (safe_old -> '$truncated') is not null
    or strpos(new::text, '"$truncated"') > 0 and (safe_new -> '$truncated') is not null;
  truncated := coalesce(truncated, false);

  if (captured -> module.key_columns[1]) is null or cardinality(module.key_columns) > 1
      or (captured -> module.status_column) is null and module.status_column is not null
      or (captured -> module.scope_column) is null and module.scope_column is not null
      or (captured -> module.custom_data_column) is null and module.custom_data_column is not null then
    missing := collecta.missing_columns(captured, module, truncated);
    if missing is not null then
      unroutable := format('column %s is not in the captured row: it was renamed or dropped; select collecta.attach_module(%L, %L, …); then select collecta.route_again();',
        missing, module.relation::regclass, module.slug);
      select v.* into module
      from collecta.modules m join collecta.module_versions v on v.version = m.current_version
      where m.module_id = read_change.module_id and v.version <> captured_under and collecta.missing_columns(captured, v, truncated) is null;
      if not found then
        -- Known all the same, it holds back the record's later changes at ordered endpoints.
        old_id := collecta.record_id(safe_old, read_change.key_columns);
        new_id := collecta.record_id(safe_new, read_change.key_columns);
        return;
      end if;
      unroutable := null;
    end if;
  end if;

  key_columns := module.key_columns;
  status_column := module.status_column;
  custom_data_column := module.custom_data_column;
  ignore_columns := module.ignore_columns;
  scope := case when module.scope_column is not null then collecta.record_id(captured, array[module.scope_column]) end;
  old_id := collecta.record_id(safe_old, key_columns);
  new_id := collecta.record_id(safe_new, key_columns);
  old_record := old::text;
  new_record := new::text;
  if truncated then
    old_record := collecta.pick_columns(old, '{$truncated,$custom_data_changed}', false)::text;
    new_record := collecta.pick_columns(new, '{$truncated,$custom_data_changed}', false)::text;
  end if;
  if operation <> 'U' or old_id <> new_id then
    return;
  end if;

  status_from := coalesce(collecta.unmask_escapes((safe_old -> status_column)::text), 'null');
  status_to := coalesce(collecta.unmask_escapes((safe_new -> status_column)::text), 'null');
  status_changed := status_from <> status_to;
  if truncated then
    custom_data_changed := coalesce((safe_new ->> '$custom_data_changed')::boolean, (safe_old ->> '$custom_data_changed')::boolean, false);
    counts := true;
    previous := '{' || case when status_changed then to_json(status_column)::text || ':' || status_from else '' end || '}';
    return;
  end if;
  -- Both rows are of one table: the same columns in the same order.
  select '{' || string_agg(to_json(c.key)::text || ':' || c.was::text, ',') || '}',
    bool_or(c.key <> all (module.ignore_columns)), coalesce(bool_or(c.key = module.custom_data_column), false)
  into previous, counts, custom_data_changed
  from rows from (json_each(safe_old), json_each(safe_new)) c (key, was, new_key, is_now)
  where c.was::text <> c.is_now::text;
  previous := collecta.unmask_escapes(previous);
  counts := coalesce(counts, false);
exception when others then
  unroutable := sqlerrm;
end
$$;
comment on function collecta.read_change(collecta.module_versions, "char", json, json) is 'What one outbox row means: which record, what changed, and the pieces of its payload.';

create or replace function collecta.missing_columns(captured json, module collecta.module_versions, truncated boolean) returns text
language sql immutable set search_path = ''
as $$
  select string_agg(c, ', ')
  from unnest(module.key_columns || module.status_column || module.scope_column || case when not truncated then module.custom_data_column end) c
  where c is not null and (captured -> c) is null
$$;
comment on function collecta.missing_columns(json, collecta.module_versions, boolean) is 'Configured columns that a captured row does not have.';

create or replace function collecta.record_id(document json, key_columns text[]) returns text
language sql immutable parallel safe
as $$
  select case
    when document is null then null
    when cardinality(key_columns) = 1 then collecta.unmask_escapes((document -> key_columns[1])::text)::json #>> '{}'
    else (select case when bool_and((document -> k) is not null) then '[' || string_agg(collecta.unmask_escapes((document -> k)::text), ',' order by place) || ']' end
          from unnest(key_columns) with ordinality key (k, place)) end
$$;
comment on function collecta.record_id(json, text[]) is 'The key of a captured row as text; of a composite key the compact JSON array in key order.';

-- Each change's old row is its predecessor's new one. A record's changes in one transaction are few.
create or replace function collecta.chain_changes(ids bigint[], olds text[], news text[], nested boolean[])
returns table (change_id bigint, order_id bigint)
language sql immutable set search_path = ''
as $$
  with recursive start as (
    select i from generate_subscripts(ids, 1) i
    where olds[i] is null or not exists (select from generate_subscripts(ids, 1) p where news[p] = olds[i] and p <> i)
  ), chain as (
    select i as at, array[i] as passed, i as started from start
    union all
    -- A circle (a trigger that takes back what the statement did) begins with a statement and not with a trigger.
    (select i, array[i], i from generate_subscripts(ids, 1) i
     where not exists (select from start) order by nested[i], i limit 1)
    union all
    select n.i, c.passed || n.i, c.started
    from chain c
    cross join lateral (
      select i from generate_subscripts(ids, 1) i
      where olds[i] = news[c.at] and i <> all (c.passed) order by i limit 1) n
  ), placed as (
    select i, row_number() over (order by c.started nulls last, cardinality(c.passed), i) as place
    from generate_subscripts(ids, 1) i
    left join lateral (select * from chain where at = i order by started limit 1) c on true
  )
  select ids[i], ids[place] from placed
$$;
comment on function collecta.chain_changes(bigint[], text[], text[], boolean[]) is
  'Puts the changes of one record in one transaction in order: which order_id each change_id takes.';
--! EndIncluded functions/read_change.sql
--! Included functions/try_filter.sql
create or replace function collecta.try_filter(body text, filter jsonpath, out matches boolean, out reason text)
language plpgsql stable set search_path = ''
as $$
begin
  matches := coalesce(jsonb_path_match(body::jsonb, filter), false);
exception when others then
  -- query_canceled is not among them: a filter that runs too long ends the batch, and the runner takes smaller ones.
  matches := false;
  reason := format('filter: %s', sqlerrm);
end
$$;
comment on function collecta.try_filter(text, jsonpath) is 'Whether an endpoint''s filter wants this payload; or why that cannot be told.';

create or replace function collecta.context_json(context text) returns text
language plpgsql immutable set search_path = ''
as $$
begin
  return context::json::text;
exception when others then
  return to_json(context)::text;
end
$$;
comment on function collecta.context_json(text) is 'collecta.context as JSON: as it was set, or as a string if it is no JSON.';

create or replace function collecta.visible_columns(payload_role text, relation oid, out columns text[])
language plpgsql stable set search_path = ''
as $$
begin
  if payload_role <> '' then
    select coalesce(array_agg(a.attname::text), '{}') into columns
    from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(to_regrole(quote_ident(payload_role))::oid, a.attrelid, a.attnum, 'select');
  end if;
end
$$;
comment on function collecta.visible_columns(text, oid) is
  'Columns that a payload_role may select now: none where the table or the role is gone. Null without a role.';
--! EndIncluded functions/try_filter.sql
--! Included functions/route_changes.sql
-- From changes to events and queue rows, after the commit and set-based: what can be slow, fail or grow with the number of
-- endpoints happens here and not in the user's transaction. One router at a time, in the outbox's order; no SKIP LOCKED, since
-- what it skipped would be overtaken.
create or replace function collecta.route_changes(
  max_changes int default 500,
  from_change bigint default 0,
  skip_filters text default null,
  set_aside text default null,
  out routed int,
  out next_change bigint
)
language plpgsql volatile security definer
set search_path = '' set "TimeZone" = 'UTC' set enable_seqscan = off set enable_nestloop = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  stamp timestamptz;
begin
  if not pg_try_advisory_xact_lock(1668246636, 2) then
    routed := -1;
    return;
  end if;
  if not exists (select from collecta.outbox o where o.change_id >= from_change) then
    routed := 0;
    next_change := from_change;
    return;
  end if;
  -- An ordered endpoint's rows are queued behind their predecessors: record_deliveries must not remove one meanwhile.
  if exists (select from collecta.endpoints e where e.ordered and e.state <> 'deleted') then
    perform pg_advisory_xact_lock(1668246636, 6);
  end if;
  -- Taken under the lock and so never before an earlier router's: due_at is in the order of routing.
  stamp := clock_timestamp();

  with batch as materialized (
    select o.* from collecta.outbox o where o.change_id >= from_change order by o.change_id limit max_changes
  ), read_batch as materialized (
    select b.*, k.*
    from batch b
    left join collecta.module_versions v on v.version = b.version
    cross join lateral collecta.read_change(v, b.operation, b.old, b.new) k
  ), whole as (
    -- A transaction with a nested trigger, or a statement that changes keys, is put in order as a whole.
    select distinct transaction_id from read_batch where nested or old_id <> new_id
  ), rest as (
    select o.*, k.*
    from whole w
    cross join lateral (
      select * from collecta.outbox o
      where o.transaction_id = w.transaction_id and o.change_id > (select max(change_id) from batch) offset 0) o
    left join collecta.module_versions v on v.version = o.version
    cross join lateral collecta.read_change(v, o.operation, o.old, o.new) k
  ), change as materialized (
    select * from read_batch union all select * from rest
  ), taken as (
    delete from collecta.outbox o where o.change_id = any (array(select change_id from change))
  ), in_order as (
    -- A trigger that changes its row again is captured before the statement that it belongs to.
    select o.change_id, o.order_id
    from (
      select array_agg(c.change_id order by c.change_id) as ids, array_agg(c.old::text order by c.change_id) as olds,
        array_agg(c.new::text order by c.change_id) as news, array_agg(c.nested order by c.change_id) as nested
      from change c
      where c.unroutable is null and c.transaction_id in (select n.transaction_id from change n where n.nested)
      group by c.transaction_id, c.module_id, coalesce(c.new_id, c.old_id)
      having count(*) > 1) g
    cross join lateral collecta.chain_changes(g.ids, g.olds, g.news, g.nested) o
  ), sorted as materialized (
    select c.*, coalesce(i.order_id, c.change_id) as order_id,
      case when c.old_id <> c.new_id then min(c.change_id) over (partition by c.transaction_id, c.captured_at) end as statement_id,
      case when c.context is not null then collecta.context_json(c.context) end as context_text,
      to_char(c.captured_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as occurred
    from change c
    left join in_order i using (change_id)
  ), refused as (
    insert into collecta.unrouted (change_id, module, record_id, change, reason, set_aside_at)
    select c.change_id, coalesce(c.slug, ''), coalesce(c.new_id, c.old_id),
      (select row_to_json(o) from (select c.change_id, c.version, c.operation, c.old, c.new, c.transaction_id, c.nested, c.captured_at, c.context) o),
      coalesce(set_aside, c.unroutable), stamp
    from sorted c
    where c.unroutable is not null or (set_aside is not null and c.operation <> 'M')
  ), muted as (
    insert into collecta.muted_changes (change_id, module, operation, records, transaction_id, context, captured_at)
    select c.change_id, c.slug, c.new ->> 'operation', (c.new ->> 'records')::bigint, c.transaction_id, c.context, c.captured_at
    from sorted c where c.operation = 'M' and c.unroutable is null
  ), event as (
    select c.module_id, c.slug, c.relation, c.change_id as captured_id, k.order_id, k.position, k.event, k.record_id, c.scope, c.captured_at,
      collecta.new_id('evt') as event_id, c.status_column, c.custom_data_column, c.key_columns, c.ignore_columns, c.occurred, c.context_text,
      c.truncated, k.record, k.previous, k.status_from, k.status_to, k.records
    from sorted c
    cross join lateral (
      select c.order_id, 0, 'record_created', c.new_id, c.new_record, null::text, null::text, null::text, null::bigint
      where c.operation = 'I' or c.old_id <> c.new_id
      union all
      select coalesce(c.statement_id, c.order_id), case when c.operation = 'U' then (-1000000000 + c.change_id - c.statement_id)::int else 0 end,
        'record_deleted', c.old_id, c.old_record, null, null, null, null
      where c.operation = 'D' or c.old_id <> c.new_id
      union all
      select c.order_id, 0, 'record_deleted', null, 'null', null, null, null, (c.new ->> 'count')::bigint where c.operation = 'T'
      union all
      select c.order_id, 0, 'record_updated', c.new_id, c.new_record, c.previous, null, null, null where c.counts
      union all
      select c.order_id, 1, 'status_change', c.new_id, c.new_record, c.previous, c.status_from, c.status_to, null where c.status_changed
      union all
      select c.order_id, 2, 'custom_data_updated', c.new_id, c.new_record, c.previous, null, null, null where c.custom_data_changed
    ) k (order_id, position, event, record_id, record, previous, status_from, status_to, records)
    where c.unroutable is null and set_aside is null
  ), body as materialized (
    -- One body for an event, and one more for each payload_role that an endpoint has.
    select v.order_id, v.position, v.slug, v.event, v.event_id, v.record_id, v.scope, v.captured_at, a.payload_role, a.recipients, b.body
    from event v
    cross join lateral (
      select r.payload_role, array_agg(r order by r.endpoint_id) filter (where r.endpoint_id is not null) as recipients
      from (
        select e.*
        from (
          select s.endpoint_id from collecta.subscriptions s
          where s.module_id = v.module_id and s.event = v.event and s.scope is null and s.after_change_id < v.captured_id
          union all
          select s.endpoint_id from collecta.subscriptions s
          where s.module_id = v.module_id and s.event = v.event and s.scope = v.scope and s.after_change_id < v.captured_id
        ) s
        cross join lateral (
          select e.endpoint_id, e.payload_role, e.filter, e.ordered
          from collecta.endpoints e where e.endpoint_id = s.endpoint_id and e.state <> 'deleted' offset 0) e
        union all select null, '', null, null
      ) r
      group by r.payload_role) a
    left join lateral collecta.visible_columns(a.payload_role, v.relation) seen on a.payload_role <> ''
    cross join lateral (
      select '{"id":"' || v.event_id || '","event":"' || v.event || '","occurred_at":"' || v.occurred || '","module":"' || v.slug
        || '","record_id":' || coalesce(case when seen.columns is null or v.key_columns <@ seen.columns then to_json(v.record_id)::text end, 'null')
        || case when v.event = 'status_change' then ',"from":' || v.status_from || ',"to":' || v.status_to else '' end
        || ',"record":' || case when seen.columns is null or v.record = 'null' then v.record else collecta.pick_columns(v.record::json, seen.columns, true)::text end
        || coalesce(',"previous":' || case when seen.columns is null then v.previous else collecta.pick_columns(v.previous::json, seen.columns, true)::text end, '')
        || coalesce(',"context":' || v.context_text, '')
        || coalesce(',"count":' || v.records::text, '')
        || case when v.truncated then ',"truncated":true' else '' end || '}' as body
    ) b
    where exists (select from collecta.subscriptions s
        where s.module_id = v.module_id and s.event = v.event and s.after_change_id < v.captured_id)
      -- A change of which its role may see nothing is no event to an endpoint.
      and (seen.columns is null
        or case v.event when 'status_change' then v.status_column = any (seen.columns)
            when 'custom_data_updated' then v.custom_data_column = any (seen.columns)
            when 'record_updated' then v.truncated or exists (
              select from json_each(collecta.mask_escapes(v.previous::json)) p where p.key = any (seen.columns) and p.key <> all (v.ignore_columns))
            else true end)
  ), written as (
    insert into collecta.events (event_id, payload_role, routed_at, change_id, position, module, event, record_id, scope, occurred_at, body)
    select b.event_id, b.payload_role, stamp, b.order_id, b.position, b.slug, b.event, b.record_id, b.scope, b.captured_at, b.body
    from body b
  ), judged as materialized (
    select b.order_id, b.position, b.event_id, b.slug, b.record_id, b.payload_role, r.endpoint_id, r.ordered, j.reason, j.matches,
      case when r.ordered then count(*) filter (where j.matches or j.reason is not null) over (
        partition by r.endpoint_id, case when r.ordered then b.record_id else b.event_id end
        order by b.order_id, b.position rows between unbounded preceding and 1 preceding) end as before
    from body b
    cross join lateral unnest(b.recipients) r (endpoint_id text, payload_role text, filter jsonpath, ordered boolean)
    cross join lateral (
      select null::text as reason, true as matches where r.filter is null
      union all select skip_filters, false where r.filter is not null and skip_filters is not null
      union all select f.reason, f.matches from collecta.try_filter(b.body, r.filter) f where r.filter is not null and skip_filters is null) j
  ), doubtful as (
    insert into collecta.unrouted (change_id, position, endpoint_id, module, record_id, event_id, payload_role, routed_at, reason, set_aside_at)
    select order_id, position, endpoint_id, slug, record_id, event_id, payload_role, stamp, reason, stamp
    from judged where reason is not null
  ), queued as (
    insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, payload_role, routed_at, due_at, record_id)
    select j.order_id, j.position, j.endpoint_id, j.event_id, j.payload_role, stamp,
      case when not j.ordered then stamp
        when j.before > 0
          -- Earlier ones: what route_again put back stands before what waited for it.
          or exists (select from collecta.delivery_queue q where q.endpoint_id = j.endpoint_id and q.record_id = coalesce(j.record_id, '')
            and (q.change_id, q.position) < (j.order_id, j.position))
          or exists (select from collecta.unrouted u where u.record_id = j.record_id and u.module = j.slug and u.endpoint_id in ('', j.endpoint_id))
          or exists (select from sorted r where r.unroutable is not null and r.order_id < j.order_id and r.slug = j.slug and coalesce(r.new_id, r.old_id) = j.record_id)
        then 'infinity' else stamp end,
      case when j.ordered then coalesce(j.record_id, '') end
    from judged j where j.matches
    order by j.order_id, j.position
  )
  select count(*), max(change_id) + 1 into routed, next_change from batch;
end
$$;
comment on function collecta.route_changes(int, bigint, text, text) is
  'Turns captured changes into events and queue rows; claim_deliveries calls it. from_change is a hint where to begin (0: the whole). skip_filters, a reason, sets aside what filters would have to judge; set_aside, a reason, sets aside the changes themselves: what a runner does, one change at a time, when routing fails. routed is -1 while another session routes. next_change is the next call''s hint.';
--! EndIncluded functions/route_changes.sql
--! Included functions/claim_deliveries.sql
-- Routes, then claims what is due: one round trip. Fair: endpoints take their turns from after_endpoint on, each with what its
-- max_in_flight leaves it. An endpoint's first max_in_flight due rows are those which may be in flight; of them, those
-- without a lease are claimable. So the bound costs no counter, and holds over replicas since claims come one after the other.
create or replace function collecta.claim_deliveries(
  batch int,
  route_limit int default 500,
  from_change bigint default 0,
  after_endpoint text default '',
  marks jsonb default '{}',
  per_endpoint int default 10000,
  environment text default null,
  skip_filters text default null,
  set_aside text default null
) returns table (
  delivery_id bigint, attempt int, endpoint_id text, event_id text, body text, ordered boolean,
  routed int, next_change bigint, endpoints json, next_marks json
)
language plpgsql volatile security definer
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  routing record;
  lease interval;
  present timestamptz;
begin
  perform collecta.check_installation(environment);
  select * into routing from collecta.route_changes(route_limit, from_change, skip_filters, set_aside);
  -- Lock first, then look in a new statement: a snapshot taken before the lock would not see the last claim.
  perform pg_advisory_xact_lock(1668246636, 3);
  -- After the lock, so that it includes what was routed above and is never before the last claim's.
  present := clock_timestamp();
  select s.lease into lease from collecta.settings s;

  return query
  with turn as (
    (select e.endpoint_id, e.max_in_flight from collecta.endpoints e
     where e.endpoint_id > after_endpoint and e.state = 'active' order by e.endpoint_id)
    union all
    (select e.endpoint_id, e.max_in_flight from collecta.endpoints e
     where e.endpoint_id <= after_endpoint and e.state = 'active' order by e.endpoint_id)
  ), candidate as materialized (
    select c.delivery_id, c.first_due, c.more
    from turn t
    cross join lateral (
      select w.delivery_id, w.first_due, w.more
      from (
        select q.delivery_id, q.leased_until, min(q.due_at) over () as first_due, count(*) over () >= t.max_in_flight as more, q.due_at, q.change_id, q.position
        from (
          select q.delivery_id, q.leased_until, q.due_at, q.change_id, q.position
          from collecta.delivery_queue q
          where q.endpoint_id = t.endpoint_id and q.due_at <= present and q.due_at >= coalesce((marks ->> t.endpoint_id)::timestamptz, '-infinity')
          order by q.due_at, q.change_id, q.position
          limit t.max_in_flight) q
      ) w
      where w.leased_until is null or w.leased_until < present
      order by w.due_at, w.change_id, w.position
      limit per_endpoint) c
    limit batch
  ), mine as materialized (
    select q.delivery_id, q.attempt, q.leased_until, c.first_due, c.more, q.leased_until is not null and q.attempt > e.retry_max as spent
    from candidate c
    join collecta.delivery_queue q on q.delivery_id = c.delivery_id
    join collecta.endpoints e on e.endpoint_id = q.endpoint_id
    where q.leased_until is null or q.leased_until < present
    for update of q skip locked
  ), taken as materialized (
    update collecta.delivery_queue q
    set attempt = q.attempt + 1, leased_until = present + lease
    from mine m
    where q.delivery_id = m.delivery_id and not m.spent
    returning q.delivery_id, q.attempt, q.endpoint_id, q.event_id, q.payload_role, q.routed_at, q.replay_of, q.record_id,
      m.leased_until as was_leased_until, m.first_due, m.more
  ), spent as (
    delete from collecta.delivery_queue q using mine m
    where q.delivery_id = m.delivery_id and m.spent
    returning q.delivery_id, q.attempt + 1 as attempt, q.endpoint_id, q.event_id, q.payload_role, q.routed_at, q.replay_of, q.record_id,
      m.leased_until as was_leased_until, m.first_due, m.more
  ), vanished as (
    -- Their runner was not heard of again: the attempt counts, and says so.
    insert into collecta.delivery_attempts (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, error,
      started_at, finished_at, next_attempt_at, replay_of)
    select collecta.new_id('dlv'), t.event_id, t.payload_role, t.routed_at, t.endpoint_id, t.attempt - 1, 'lost', e.url,
      'the runner vanished before the result was recorded', t.was_leased_until - lease, t.was_leased_until, case when not t.spent then present end, t.replay_of
    from (select *, false as spent from taken union all select *, true from spent) t join collecta.endpoints e on e.endpoint_id = t.endpoint_id
    where t.was_leased_until is not null
  ), involved as (
    select t.endpoint_id, min(t.first_due) as first_due, bool_or(t.more) as more from taken t group by t.endpoint_id
  )
  select t.delivery_id, t.attempt, t.endpoint_id, t.event_id, v.body, t.record_id is not null,
    null::int, null::bigint, null::json, null::json
  from taken t
  join collecta.events v on v.event_id = t.event_id and v.payload_role = t.payload_role and v.routed_at = t.routed_at
  union all
  select null, null, null, null, null, null, routing.routed, routing.next_change,
    (select json_agg(json_build_object('endpoint_id', e.endpoint_id, 'url', e.url, 'headers', e.headers, 'more', i.more,
        'secrets', case when s.previous_until > present then array[s.previous_secret, s.secret] else array[s.secret] end) order by e.endpoint_id)
     from involved i join collecta.endpoints e on e.endpoint_id = i.endpoint_id join collecta.endpoint_secrets s on s.endpoint_id = e.endpoint_id),
    (select json_object_agg(i.endpoint_id, i.first_due) from involved i);
end
$$;
comment on function collecta.claim_deliveries(int, int, bigint, text, jsonb, int, text, text, text) is
  'For runners: routes up to route_limit changes, then claims up to batch deliveries that are due and increments their attempt. Returns a row each and one status row (delivery_id null) with routed (-1: another session was routing), the hints for the next call (from_change, marks: where dead rows end; leave them out to look at the whole) and the endpoints concerned, secrets included. Record each with record_deliveries before settings.lease has passed, or it is claimed again.';
--! EndIncluded functions/claim_deliveries.sql
--! Included functions/record_deliveries.sql
-- One history row for each attempt, and the queue row goes (delivered, exhausted) or gets its next time: in one transaction.
-- Attempt and lease fence: the result of a runner whose lease was taken over matches no row and changes nothing; neither
-- does one that is recorded a second time, since its first commit's answer was lost.
create or replace function collecta.record_deliveries(results json) returns int
language plpgsql volatile security definer
set search_path = '' set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  recorded int;
  succeeded text[];
  failing text[];
  gone text[];
  ordered_endpoints text[];
  ordered_records text[];
begin
  -- A router that queues behind a predecessor and we who remove it take turns.
  if exists (select from json_array_elements(results) r where (r ->> 'ordered')::boolean) then
    perform pg_advisory_xact_lock(1668246636, 6);
  end if;
  with result as materialized (
    select * from json_to_recordset(results) r (
      delivery_id bigint, attempt int, outcome text, url text, request_headers json, status int, response_headers json, response_body text,
      error text, age_ms float8, lookup_ms real, connect_ms real, first_byte_ms real, total_ms float8, retry_after_s float8)
  ), mine as materialized (
    select r.*, q.endpoint_id, q.event_id, q.payload_role, q.routed_at, q.replay_of, q.record_id,
      r.outcome <> 'delivered' and (q.attempt > e.retry_max or e.state = 'deleted') as last,
      clock_timestamp() - r.age_ms * interval '1 ms' as started_at,
      clock_timestamp() - (r.age_ms - r.total_ms) * interval '1 ms' as finished_at,
      -- retry_base, then doubled after each attempt (60, 120, 240, 480, 960 s), from the end of the failed one;
      -- the receiver's Retry-After only lengthens it, by an hour at most.
      greatest(e.retry_base * pow(2, q.attempt - 1), least(coalesce(r.retry_after_s, 0), 3600) * interval '1 s') as wait
    from result r
    join collecta.delivery_queue q on q.delivery_id = r.delivery_id and q.attempt = r.attempt and q.leased_until is not null
    join collecta.endpoints e on e.endpoint_id = q.endpoint_id
    order by q.delivery_id
    for update of q
  ), done as (
    delete from collecta.delivery_queue q using mine m
    where q.delivery_id = m.delivery_id and (m.outcome = 'delivered' or m.last)
  ), again as (
    update collecta.delivery_queue q
    -- Never before rows in flight: claims find these as the first max_in_flight that are due.
    set due_at = greatest(m.finished_at + m.wait, clock_timestamp()), leased_until = null
    from mine m
    where q.delivery_id = m.delivery_id and m.outcome <> 'delivered' and not m.last
  ), history as (
    insert into collecta.delivery_attempts (id, event_id, payload_role, routed_at, endpoint_id, attempt, outcome, url, request_headers,
      response_status, response_headers, response_body, error, started_at, finished_at,
      lookup_ms, connect_ms, first_byte_ms, total_ms, next_attempt_at, replay_of)
    select collecta.new_id('dlv'), m.event_id, m.payload_role, m.routed_at, m.endpoint_id, m.attempt,
      case when m.last and m.outcome = 'failed' then 'exhausted' else m.outcome end, m.url, m.request_headers,
      m.status, m.response_headers, m.response_body, m.error, m.started_at, m.finished_at,
      m.lookup_ms, m.connect_ms, m.first_byte_ms, m.total_ms,
      case when m.outcome <> 'delivered' and not m.last then m.finished_at + m.wait end, m.replay_of
    from mine m
  )
  select count(*),
    array_agg(distinct m.endpoint_id) filter (where m.outcome = 'delivered'),
    array_agg(distinct m.endpoint_id) filter (where m.outcome <> 'delivered'),
    array_agg(distinct m.endpoint_id) filter (where m.status = 410),
    array_agg(m.endpoint_id) filter (where m.record_id is not null and (m.outcome = 'delivered' or m.last)),
    array_agg(m.record_id) filter (where m.record_id is not null and (m.outcome = 'delivered' or m.last))
  into recorded, succeeded, failing, gone, ordered_endpoints, ordered_records
  from mine m;

  if succeeded is not null then
    update collecta.endpoints e set failing_since = null where e.endpoint_id = any (succeeded) and e.failing_since is not null;
  end if;
  if failing is not null then
    update collecta.endpoints e set failing_since = now()
    where e.endpoint_id = any (failing) and e.failing_since is null and not e.endpoint_id = any (coalesce(succeeded, '{}'));
  end if;
  if gone is not null then
    update collecta.endpoints e set state = 'paused', paused_reason = 'the receiver answered 410 Gone'
    where e.endpoint_id = any (gone) and e.state = 'active';
  end if;
  if ordered_endpoints is not null then
    perform collecta.promote_next(ordered_endpoints, ordered_records);
  end if;
  return recorded;
end
$$;
comment on function collecta.record_deliveries(json) is
  'For runners: records finished attempts. An array of {delivery_id, attempt, ordered, outcome: delivered|failed|blocked, url, request_headers, status, response_headers, response_body, error, age_ms: since its start, total_ms, lookup_ms, connect_ms, first_byte_ms, retry_after_s}. Returns how many were still theirs to record.';

create or replace function collecta.promote_next(endpoint_ids text[], record_ids text[]) returns int
language plpgsql volatile security definer set search_path = ''
as $$
declare
  promoted int;
begin
  -- A new statement, and so a snapshot in which the finished predecessors are gone.
  update collecta.delivery_queue q
  set due_at = clock_timestamp()
  from (select distinct endpoint_id, record_id from unnest(endpoint_ids, record_ids) r (endpoint_id, record_id)) r
  cross join lateral (
    select n.delivery_id, n.change_id, n.position from collecta.delivery_queue n
    where n.endpoint_id = r.endpoint_id and n.record_id = r.record_id
    order by n.change_id, n.position limit 1) next
  where q.delivery_id = next.delivery_id and q.due_at = 'infinity'
    and not exists (select from collecta.unrouted u
      where u.record_id = r.record_id and u.endpoint_id in ('', r.endpoint_id) and (u.change_id, u.position) < (next.change_id, next.position));
  get diagnostics promoted = row_count;
  return promoted;
end
$$;
comment on function collecta.promote_next(text[], text[]) is 'Makes the next change of an ordered record due. Under advisory lock 6.';

create or replace function collecta.release_deliveries(delivery_ids bigint[], attempts int[]) returns int
language plpgsql volatile security definer set search_path = ''
as $$
declare
  released int;
begin
  update collecta.delivery_queue q
  set attempt = q.attempt - 1, leased_until = null
  from unnest(delivery_ids, attempts) r (delivery_id, attempt)
  where q.delivery_id = r.delivery_id and q.attempt = r.attempt;
  get diagnostics released = row_count;
  perform collecta.wake_runner();
  return released;
end
$$;
comment on function collecta.release_deliveries(bigint[], int[]) is 'For runners that stop: gives back claimed deliveries that were not begun.';
--! EndIncluded functions/record_deliveries.sql
--! Included functions/route_again.sql
create or replace function collecta.route_again(endpoint_id text default null) returns int
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  again int;
  last_back bigint;
begin
  -- Router and record wait meanwhile: what is put back stands before what they would queue or make due.
  perform pg_advisory_xact_lock(1668246636, 2);
  perform pg_advisory_xact_lock(1668246636, 6);
  with change as (
    delete from collecta.unrouted u where u.endpoint_id = '' and route_again.endpoint_id is null returning u.change
  ), back as (
    insert into collecta.outbox overriding system value
    select (c.safe ->> 'change_id')::bigint, (c.safe ->> 'version')::int, (c.safe ->> 'operation')::"char",
      nullif(collecta.unmask_escapes((c.safe -> 'old')::text), 'null')::json, nullif(collecta.unmask_escapes((c.safe -> 'new')::text), 'null')::json,
      (c.safe ->> 'transaction_id')::xid8, (c.safe ->> 'nested')::boolean, (c.safe ->> 'captured_at')::timestamptz,
      collecta.unmask_escapes((c.safe -> 'context')::text)::json #>> '{}'
    from (select collecta.mask_escapes(change) as safe from change offset 0) c
    returning change_id
  ), judged as materialized (
    select u.change_id, u.position, u.endpoint_id, f.matches, f.reason
    from collecta.unrouted u
    join collecta.endpoints e on e.endpoint_id = u.endpoint_id
    join collecta.events v on v.event_id = u.event_id and v.payload_role = u.payload_role and v.routed_at = u.routed_at
    cross join lateral (select true as matches, null::text as reason where e.filter is null
      union all select t.matches, t.reason from collecta.try_filter(v.body, e.filter) t where e.filter is not null) f
    where u.endpoint_id <> '' and (route_again.endpoint_id is null or u.endpoint_id = route_again.endpoint_id)
  ), still as (
    update collecta.unrouted u set reason = j.reason, set_aside_at = now()
    from judged j
    where u.change_id = j.change_id and u.position = j.position and u.endpoint_id = j.endpoint_id and j.reason is not null
  ), routable as (
    delete from collecta.unrouted u using judged j
    where u.change_id = j.change_id and u.position = j.position and u.endpoint_id = j.endpoint_id and j.reason is null
    returning u.*, j.matches
  ), queued as (
    insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, payload_role, routed_at, due_at, record_id)
    select r.change_id, r.position, r.endpoint_id, r.event_id, r.payload_role, r.routed_at,
      case when e.ordered then 'infinity' else clock_timestamp() end, case when e.ordered then coalesce(r.record_id, '') end
    from routable r join collecta.endpoints e on e.endpoint_id = r.endpoint_id
    where r.matches
    order by r.change_id, r.position
    returning 1
  )
  select (select count(*) from back) + (select count(*) from routable), (select max(change_id) from back) into again, last_back;
  begin
    -- Now, since promote_waiting must see them before what waits behind them.
    perform collecta.route_changes((select count(*)::int from collecta.outbox o where o.change_id <= last_back))
    where last_back is not null;
    perform collecta.promote_waiting();
  exception when others then
    null; -- A runner takes them one by one and sets aside what cannot be routed; maintain promotes.
  end;
  perform collecta.wake_runner();
  return again;
end
$$;
comment on function collecta.route_again(text) is
  'Routes what was set aside in collecta.unrouted once more: for one endpoint, or everything. Returns how many could be routed.';

create or replace function collecta.promote_waiting() returns int
language sql volatile security definer set search_path = ''
as $$
  select collecta.promote_next(array_agg(w.endpoint_id), array_agg(w.record_id))
  from (select distinct q.endpoint_id, q.record_id from collecta.delivery_queue q where q.record_id is not null and q.due_at = 'infinity') w
$$;
comment on function collecta.promote_waiting() is 'Makes due whatever waits behind nothing any more (a predecessor was deleted by hand, was lost, or an ordered endpoint''s order was changed). Under advisory lock 6.';
--! EndIncluded functions/route_again.sql
--! Included functions/replay_delivery.sql
create or replace function collecta.replay_delivery(id text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  replayed collecta.delivery_attempts;
  event collecta.events;
begin
  select a.* into replayed from collecta.delivery_attempts a where a.id = replay_delivery.id;
  if not found then
    raise exception using errcode = 'CW020', message = format('there is no delivery %L', id),
      detail = 'Attempts are kept for settings.retention.', hint = 'select id, outcome, started_at from collecta.webhook_deliveries order by started_at desc limit 20;';
  end if;
  perform collecta.check_endpoint_id(replayed.endpoint_id);
  -- Of an ordered endpoint it stands behind what is being sent of its record: record_deliveries and we take turns.
  perform pg_advisory_xact_lock(1668246636, 6) from collecta.endpoints e where e.endpoint_id = replayed.endpoint_id and e.ordered;
  select v.* into event from collecta.events v
  where v.event_id = replayed.event_id and v.payload_role = replayed.payload_role and v.routed_at = replayed.routed_at;
  update collecta.delivery_queue q
  set due_at = least(q.due_at, now())
  where q.endpoint_id = replayed.endpoint_id and q.event_id = replayed.event_id
    and (q.due_at <> 'infinity') and (q.leased_until is null or q.leased_until < now());
  if not exists (select from collecta.delivery_queue q where q.endpoint_id = replayed.endpoint_id and q.event_id = replayed.event_id) then
    insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, payload_role, routed_at, due_at, record_id, replay_of)
    select event.change_id, event.position, e.endpoint_id, event.event_id, event.payload_role, event.routed_at,
      case when e.ordered and exists (
          select from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id and q.record_id = coalesce(event.record_id, ''))
        then 'infinity' else clock_timestamp() end,
      case when e.ordered then coalesce(event.record_id, '') end, replayed.id
    from collecta.endpoints e where e.endpoint_id = replayed.endpoint_id;
  end if;
  perform collecta.wake_runner();
  return replayed.event_id;
end
$$;
comment on function collecta.replay_delivery(text) is
  'Sends the event of a delivery attempt (webhook_deliveries.id) to its endpoint again: the same bytes, the same webhook-id, attempts from 1, replay_of set. One that is still queued becomes due now. Returns the event''s id.';

create or replace function collecta.send_test_event(endpoint_id text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  made constant text := collecta.new_id('evt');
  change constant bigint := nextval('collecta.outbox_change_id_seq');
  stamp constant timestamptz := clock_timestamp();
begin
  perform collecta.check_endpoint_id(send_test_event.endpoint_id);
  insert into collecta.events (event_id, routed_at, change_id, position, module, event, occurred_at, body)
  values (made, stamp, change, 0, 'test', 'test', stamp,
    format('{"id":"%s","event":"test","occurred_at":"%s","module":"test","record_id":null,"record":{"message":"A test event of collecta-webhooks."}}',
      made, to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
  insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at)
  values (change, 0, send_test_event.endpoint_id, made, stamp, stamp);
  perform collecta.wake_runner();
  return made;
end
$$;
comment on function collecta.send_test_event(text) is 'Queues an event named test for an endpoint and returns its id: select * from collecta.webhook_deliveries where event_id = ''…''.';
--! EndIncluded functions/replay_delivery.sql
--! Included functions/maintain.sql
-- Events and attempts are partitioned by day of routing. A partition is made apart and attached, which locks out nobody
-- (CREATE … PARTITION OF would); an old one is dropped under a short lock_timeout, and next time if somebody is reading.
create or replace function collecta.maintain() returns table (done text, subject text)
language plpgsql volatile security definer
set search_path = '' set "TimeZone" = 'UTC' set lock_timeout = '100ms'
as $$
declare
  parent text;
  day date;
  partition record;
  keep constant interval := (select retention from collecta.settings);
begin
  if not pg_try_advisory_xact_lock(1668246636, 7) then
    return;
  end if;
  foreach parent in array array['events', 'delivery_attempts'] loop
    for day in select generate_series(current_date, current_date + 3, interval '1 day')::date loop
      continue when to_regclass(format('collecta.%I', parent || to_char(day, '_YYYYMMDD'))) is not null;
      execute format('create table collecta.%I (like collecta.%I including defaults including constraints including comments)',
        parent || to_char(day, '_YYYYMMDD'), parent);
      execute format('alter table collecta.%I attach partition collecta.%I for values from (%L) to (%L)',
        parent, parent || to_char(day, '_YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
      done := 'made partition';
      subject := parent || to_char(day, '_YYYYMMDD');
      return next;
    end loop;
    for partition in
      select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
      from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
      where i.inhparent = format('collecta.%I', parent)::regclass and c.relname ~ '_[0-9]{8}$'
    loop
      continue when partition.day + 1 > now() - keep;
      -- What is queued or set aside still needs its event.
      continue when exists (select from collecta.delivery_queue q
          where q.routed_at >= partition.day::timestamptz and q.routed_at < (partition.day + 1)::timestamptz)
        or exists (select from collecta.unrouted u
          where u.routed_at >= partition.day::timestamptz and u.routed_at < (partition.day + 1)::timestamptz);
      begin
        execute format('drop table collecta.%I', partition.relname);
        done := 'dropped partition';
      exception when lock_not_available then
        done := 'left for next time, somebody is reading it';
      end;
      subject := partition.relname;
      return next;
    end loop;
  end loop;

  delete from collecta.muted_changes m where m.captured_at < now() - keep;
  delete from collecta.delivery_queue q using collecta.endpoints e
  where e.endpoint_id = q.endpoint_id and e.state = 'deleted' and (q.leased_until is null or q.leased_until < now());
  delete from collecta.module_versions v
  where v.made_at < now() - keep
    and not exists (select from collecta.modules m where m.current_version = v.version)
    and not exists (select from collecta.outbox o where o.version = v.version)
    and not exists (select from collecta.unrouted u where (u.change ->> 'version')::int = v.version);
  delete from collecta.subscriptions s
  where not exists (select from collecta.module_versions v where v.module_id = s.module_id);

  return query
  update collecta.endpoints e
  set state = 'paused', paused_reason = format('it failed without one success since %s', e.failing_since)
  from collecta.settings s
  where e.state = 'active' and e.failing_since < now() - s.pause_after
  returning 'paused a failing endpoint', e.endpoint_id;

  if pg_try_advisory_xact_lock(1668246636, 6) then
    perform collecta.promote_waiting();
  end if;
end
$$;
comment on function collecta.maintain() is
  'For runners, at start and every ten minutes: partitions ahead, partitions past settings.retention, endpoints that fail for settings.pause_after. Says what it did.';
--! EndIncluded functions/maintain.sql

--! Included views/webhook_deliveries.sql
create view collecta.webhook_deliveries as
select
  a.id, a.event_id, a.endpoint_id, e.module, e.event, e.record_id, a.attempt, a.url,
  a.request_headers::jsonb as request_headers, e.body as request_body, a.outcome,
  a.response_status, a.response_headers::jsonb as response_headers, a.response_body, a.error,
  a.started_at, a.finished_at, round(extract(epoch from a.finished_at - a.started_at) * 1000, 3) as duration_ms,
  a.lookup_ms, a.connect_ms, a.first_byte_ms, a.total_ms, a.next_attempt_at, a.replay_of,
  e.scope, e.occurred_at, a.routed_at
from collecta.delivery_attempts a
join collecta.events e
  on e.event_id = a.event_id and e.payload_role = a.payload_role and e.routed_at = a.routed_at;
comment on view collecta.webhook_deliveries is
  'Every delivery attempt with its event: what was sent, when, and what came back. select … where record_id = ''…'' order by started_at.';
comment on column collecta.webhook_deliveries.id is 'The attempt; give it to replay_delivery(id).';
comment on column collecta.webhook_deliveries.event_id is 'The webhook-id header and the payload''s id.';
comment on column collecta.webhook_deliveries.outcome is 'delivered; failed (is tried again); exhausted (was the last attempt); blocked (the destination is not allowed); lost (the runner vanished).';
comment on column collecta.webhook_deliveries.request_body is 'The exact bytes that were sent, as text.';
comment on column collecta.webhook_deliveries.next_attempt_at is 'When it is tried again; null after the last attempt.';
comment on column collecta.webhook_deliveries.lookup_ms is 'Resolving and checking the destination, in milliseconds; null where the runner did not get there.';
comment on column collecta.webhook_deliveries.replay_of is 'The attempt whose event was replayed.';
comment on column collecta.webhook_deliveries.routed_at is 'Partition key: name a range of it to read only those days.';
--! EndIncluded views/webhook_deliveries.sql
--! Included views/health.sql
create view collecta.health as
with member as (
  select m.slug, m.module_id, c.oid, c.relkind
  from (select slug, module_id, relation::oid as relid from collecta.modules
        union select m.slug, m.module_id, p.relid from collecta.modules m cross join lateral pg_partition_tree(m.relation) p) m
  join pg_class c on c.oid = m.relid and c.relkind in ('r', 'p')
)
select 'error' as severity, 'table is gone' as problem, m.slug as subject, 'A module without its table.' as detail,
  format('select collecta.detach_module(%L);', m.slug) as hint
from collecta.modules m where not exists (select from pg_class c where c.oid = m.relation)
union all
select 'error', 'configured column is gone', m.slug, format('Column %s of %s was renamed or dropped: its changes will be set aside in collecta.unrouted.', c, m.relation),
  format('select collecta.attach_module(%L, %L, …); select collecta.route_again();', m.relation, m.slug)
from collecta.modules m
join collecta.module_versions v on v.version = m.current_version
cross join lateral unnest(v.key_columns || v.status_column || v.custom_data_column || v.scope_column) c
where c is not null and exists (select from pg_class r where r.oid = m.relation)
  and not exists (select from pg_attribute a where a.attrelid = m.relation and a.attname = c and not a.attisdropped)
union all
select 'error', 'changes are not captured', m.slug, format('%s lacks an enabled capture trigger for %s.', m.oid::regclass, task),
  format('select collecta.attach_module(%L, %L, …); or alter table … enable trigger …;', (select n.relation from collecta.modules n where n.slug = m.slug), m.slug)
from member m cross join unnest(array['insert', 'update', 'delete', 'truncate']) task
where not (task = 'truncate' and m.relkind = 'p')
  and not exists (select from pg_trigger t where t.tgrelid = m.oid and t.tgname = 'collecta_capture_' || task and t.tgenabled in ('O', 'A'))
union all
select 'error', 'it became a partition or inherits', m.slug, format('%s is part of another table, or another of it: what is written through the one fires nothing of the other.', m.relation),
  format('select collecta.detach_module(%L); then attach the root of its partition tree.', m.slug)
from collecta.modules m join pg_class c on c.oid = m.relation
where exists (select from pg_inherits i where i.inhrelid = c.oid or i.inhparent = c.oid and c.relkind = 'r')
union all
select 'error', 'logical replication writes it', m.slug, 'Its apply fires no statement trigger: nothing is captured.', 'Attach it on the publisher.'
from member m where exists (select from pg_subscription_rel s where s.srrelid = m.oid)
union all
select 'error', 'database is a copy', current_database(), 'collecta was installed in another database; nothing is claimed here.', 'select collecta.resume_after_restore();'
from collecta.installation i
where i.system_identifier <> (select system_identifier from pg_control_system())
  or i.database_oid <> (select d.oid from pg_database d where d.datname = current_database())
union all
select 'error', 'partition is missing', parent, 'Nothing can be routed without a partition for today.', 'select * from collecta.maintain();'
from unnest(array['events', 'delivery_attempts']) parent
where to_regclass(format('collecta.%I', parent || to_char(now() at time zone 'UTC', '_YYYYMMDD'))) is null
union all
select 'warning', 'changes are set aside', u.module, format('%s not routed%s, e.g. %s', count(*), case u.endpoint_id when '' then '' else ' to ' || u.endpoint_id end, min(u.reason)),
  'Mend the cause, then select collecta.route_again();'
from collecta.unrouted u group by u.module, u.endpoint_id
union all
select 'warning', 'endpoint is paused', e.endpoint_id, coalesce(e.paused_reason, ''), format('select collecta.resume_endpoint(%L);', e.endpoint_id)
from collecta.endpoints e where e.state = 'paused'
union all
select 'warning', 'endpoint fails', e.endpoint_id, format('Without one success since %s.', e.failing_since),
  format('select started_at, outcome, response_status, error from collecta.webhook_deliveries where endpoint_id = %L order by started_at desc limit 5;', e.endpoint_id)
from collecta.endpoints e where e.state = 'active' and e.failing_since < now() - interval '10 minutes'
union all
select 'warning', 'no runner routes', 'outbox', format('The oldest change waits since %s.', o.captured_at), 'collecta-webhooks run'
from (select captured_at from collecta.outbox order by change_id limit 1) o where o.captured_at < now() - interval '1 minute'
union all
select 'warning', 'deliveries are late', q.endpoint_id, format('The first is due since %s.', q.due_at), 'Are enough runners up? Is max_in_flight too low for what this endpoint takes?'
from collecta.endpoints e
cross join lateral (select q.endpoint_id, q.due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id order by q.due_at limit 1) q
where e.state = 'active' and q.due_at < now() - interval '5 minutes'
union all
select 'warning', 'partition is kept', c.relname, 'It is past settings.retention and still holds a queued or set aside event.', 'See collecta.delivery_queue and collecta.unrouted, by routed_at.'
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent in ('collecta.events'::regclass, 'collecta.delivery_attempts'::regclass)
  and c.relname ~ '_[0-9]{8}$' and to_date(right(c.relname, 8), 'YYYYMMDD') + 2 < now() - (select retention from collecta.settings)
union all
select 'warning', 'publication for all tables', p.pubname, 'It carries collecta''s tables too, and each new partition stops its subscriber until the table exists there.',
  format('create publication … for table …; instead of for all tables (drop publication %I;)', p.pubname)
from pg_publication p where p.puballtables
union all
select 'info', 'changes were muted', m.module, format('%s statements, %s records since yesterday', count(*), sum(m.records)), 'select * from collecta.muted_changes order by captured_at desc;'
from collecta.muted_changes m where m.captured_at > now() - interval '1 day' group by m.module;
comment on view collecta.health is 'What needs a DBA: no row, no worry. Each with the statement that helps.';
--! EndIncluded views/health.sql
--! Included roles/grants.sql
-- Deny by default: nothing in the schema is anybody's but the owner's until it is granted here.
-- Run at the end of every migration; idempotent.
do $$
declare
  grants constant text[] := array[
    -- role, privilege on object
    'collecta_reader|usage on schema collecta',
    'collecta_reader|select on collecta.modules, collecta.module_versions, collecta.endpoints, collecta.subscriptions, collecta.outbox, collecta.events, collecta.delivery_queue, collecta.delivery_attempts, collecta.unrouted, collecta.muted_changes, collecta.settings, collecta.installation, collecta.webhook_deliveries, collecta.health',
    'collecta_operator|usage on schema collecta',
    'collecta_operator|execute on function collecta.pause_endpoint(text, text), collecta.resume_endpoint(text), collecta.replay_delivery(text), collecta.send_test_event(text), collecta.route_again(text), collecta.new_id(text)',
    'collecta_capture|usage on schema collecta',
    'collecta_capture|insert on collecta.outbox',
    'collecta_capture|select on collecta.settings',
    'collecta_capture|execute on function collecta.pick_columns(json, text[], boolean), collecta.mask_escapes(json), collecta.unmask_escapes(text)',
    'collecta_dispatcher|usage on schema collecta',
    'collecta_dispatcher|execute on function collecta.claim_deliveries(int, int, bigint, text, jsonb, int, text, text, text), collecta.record_deliveries(json), collecta.release_deliveries(bigint[], int[]), collecta.maintain(), collecta.wake_runner()',
    'collecta_dispatcher|select on collecta.settings'
  ];
  granted text;
  grantee text;
begin
  revoke all on all functions in schema collecta from public;
  foreach granted in array grants loop
    grantee := split_part(granted, '|', 1);
    if to_regrole(grantee) is not null then
      execute format('grant %s to %I', split_part(granted, '|', 2), grantee);
    end if;
  end loop;
  if to_regrole('collecta_operator') is not null and to_regrole('collecta_reader') is not null then
    begin
      grant collecta_reader to collecta_operator;
    exception when insufficient_privilege then
      raise notice 'collecta: collecta_operator was not made a member of collecta_reader: %', sqlerrm;
    end;
  end if;
end
$$;
do $$ begin perform collecta.maintain(); end $$;
reset role;
-- The ledger is the installer's own: runners look there whether collecta is installed.
do $$
declare
  grantee text;
begin
  foreach grantee in array array['collecta_dispatcher', 'collecta_inbound', 'collecta_reader'] loop
    if to_regrole(grantee) is not null and to_regclass('collecta.migrations') is not null then
      execute format('grant select on collecta.migrations to %I', grantee);
    end if;
  end loop;
end
$$;
--! EndIncluded roles/grants.sql
