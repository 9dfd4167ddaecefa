-- The first statements of every transaction of an install or an upgrade, by `collecta-webhooks migrate` and by
-- install.psql: they refuse a place that is not ours, make the schema, the ledger and the roles where they are missing,
-- and go on as the owner. Nothing that somebody planted in another schema can be called: names are looked up in
-- pg_catalog only.
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
-- On Citus each node has an install of its own. Elsewhere this setting means nothing.
set local citus.enable_ddl_propagation = off;

do $$
declare
  schema_name text;
  prefix constant text := coalesce(nullif(current_setting('collecta.role_prefix', true), ''), 'collecta_');
  trusted oid[];
  writers oid[] := '{}';
  found text;
begin
  if current_setting('server_version_num')::int < 140000 then
    raise exception 'collecta-webhooks needs PostgreSQL 14 or later, this is %', current_setting('server_version')
      using errcode = 'feature_not_supported', hint = 'Upgrade the server, then run the install again.';
  end if;
  if pg_is_in_recovery() then
    raise exception 'this server is a standby, which is read-only'
      using errcode = 'read_only_sql_transaction', hint = 'Install on the primary; its standbys get it from there.';
  end if;
  if prefix !~ '^[a-z_][a-z0-9_]{0,39}$' then
    raise exception 'not a valid role prefix: %', prefix
      using errcode = 'CW041', hint = 'Lower-case letters, digits and underscores, at most 40: such as app1_collecta_.';
  end if;

  -- Only these may own what is installed. Membership is no proof: before PostgreSQL 16 any login may make others
  -- members of itself.
  trusted := array(select r.oid from pg_catalog.pg_roles r
                   where r.rolsuper or r.rolname = current_user or r.rolname = prefix || 'owner');
  -- Functions that are written for a table belong to the roles that run them; an inbound endpoint may have one of its
  -- own.
  if exists (
    select from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'writer'
    where c.oid = to_regclass('collecta.inbound_endpoints') and c.relkind = 'r' and c.relowner = any (trusted)
  ) then
    execute 'select array(select r.oid from collecta.inbound_endpoints e '
      'join pg_catalog.pg_roles r on r.rolname = e.writer)' into writers;
  end if;
  foreach schema_name in array array['collecta', 'collecta_modules', 'collecta_rows'] loop
    continue when to_regnamespace(schema_name) is null;
    select n.nspowner::regrole::text into found
    from pg_catalog.pg_namespace n where n.nspname = schema_name and n.nspowner <> all (trusted);
    if found is not null then
      raise exception using errcode = 'CW041', message = format('the schema %s belongs to %s', schema_name, found),
        detail = 'Whoever owns the schema can put functions of their own in the place of collecta''s.',
        hint = case when found like '%\_owner'
          then format('If that is the owner of an install whose roles have a prefix, name the prefix: '
                      '--role-prefix %1$s, or -v role_prefix=%1$s in psql.', left(found, -5))
          else format('If %s installed collecta here, run this as that role. If the schema is not collecta''s, its '
                      'owner has to rename it.', found) end;
    end if;
    -- Without a ledger the schema has to be empty; with one, everything in it is the owners'.
    select string_agg(object.description, ', ' order by object.description) into found
    from (
      select pg_describe_object(d.classid, d.objid, 0) as description
      from pg_catalog.pg_depend d
      left join pg_catalog.pg_shdepend s
        on s.dbid = (select oid from pg_catalog.pg_database where datname = current_database())
        and s.classid = d.classid and s.objid = d.objid and s.deptype = 'o'
      where d.refclassid = 'pg_catalog.pg_namespace'::regclass and d.refobjid = to_regnamespace(schema_name)
        and (to_regclass('collecta.migrations') is null
             or s.refobjid <> all (trusted || writers || array(
                  select r.oid from pg_catalog.pg_roles r
                  where r.rolname in (prefix || 'capture', prefix || 'writer', prefix || 'viewer')
                  union all
                  select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'collecta')))
      limit 5
    ) object;
    if found is not null then
      raise exception using errcode = 'CW041',
        message = format('the schema %s holds what is not of this install', schema_name),
        detail = format('For example: %s.', found),
        hint = case when to_regnamespace('collecta') is null
          then 'If collecta was uninstalled by dropping its schema, these are its remains: '
               'drop schema if exists collecta_modules, collecta_rows cascade;'
          else 'Look at who made it, and drop it or move it to another schema; then run this again.' end;
    end if;
  end loop;

  -- `create schema if not exists` wants CREATE on the database even where the schema is there already.
  foreach schema_name in array array['collecta', 'collecta_modules', 'collecta_rows'] loop
    if to_regnamespace(schema_name) is null then
      execute format('create schema %I', schema_name);
    end if;
  end loop;
  if to_regclass('collecta.migrations') is null then
    create table collecta.migrations (
      filename text collate "C" not null,
      hash text collate "C" not null,
      previous_hash text collate "C",
      applied_at timestamptz not null default now(),
      constraint migrations_pkey primary key (filename)
    );
    comment on table collecta.migrations is
      'Which files of sql/committed are installed here: the ledger of `collecta-webhooks migrate` and of '
      'sql/install.psql.';
    comment on column collecta.migrations.filename is 'Name of the file in sql/committed.';
    comment on column collecta.migrations.hash is
      'The file''s hash as its header says; it covers the previous one''s, so the files form a chain.';
    comment on column collecta.migrations.previous_hash is 'Hash of the file before; null for the first.';
    comment on column collecta.migrations.applied_at is 'When its transaction began.';
  end if;
  -- A copy of the schema alone has an empty ledger; this function tells what it would say.
  if to_regprocedure('collecta.installed_migrations()') is not null then
    execute 'insert into collecta.migrations (filename, hash, previous_hash)
      select i.filename, i.hash, i.previous_hash from collecta.installed_migrations() i
      where not exists (select from collecta.migrations)';
  end if;
end
$$;

-- Roles are a cluster's, not a database's: another database's install may have made them already, and an installer
-- without CREATEROLE cannot make them at all. Then everything belongs to the installer, and the notice says so.
do $$
declare
  prefix constant text := coalesce(nullif(current_setting('collecta.role_prefix', true), ''), 'collecta_');
  installed text;
  role_name text;
  schema_name text;
  owner_role text;
begin
  if to_regprocedure('collecta.role_prefix()') is not null then
    execute 'select collecta.role_prefix()' into installed;
    if prefix <> installed then
      raise exception using errcode = 'CW041', message = format('the roles of this install begin with %s', installed),
        hint = format('Name that prefix: --role-prefix %s, or -v role_prefix=%1$s in psql.', installed);
    end if;
  end if;
  owner_role := prefix || 'owner';
  foreach role_name in array array[
    'owner', 'capture', 'writer', 'viewer', 'dispatcher', 'inbound', 'reader', 'operator'
  ] loop
    role_name := prefix || role_name;
    begin
      if to_regrole(quote_ident(role_name)) is null then
        execute format('create role %I nologin', role_name);
      end if;
      -- The installer must be able to act as the owners; who made a role may grant it (16 and later: to itself too).
      if role_name in (owner_role, prefix || 'capture', prefix || 'writer', prefix || 'viewer')
         and not pg_has_role(current_user, role_name, 'usage') then
        execute format('grant %I to current_user', role_name);
      end if;
    exception
      when insufficient_privilege or duplicate_object or unique_violation then
        raise notice 'collecta: role % was skipped: %', role_name, sqlerrm
          using hint = format('As a role that may: %sgrant %I to %I; then run this again, or go on without it.',
            case when to_regrole(quote_ident(role_name)) is null then format('create role %I nologin; ', role_name) end,
            role_name, current_user);
    end;
  end loop;
  if to_regrole(quote_ident(prefix || 'operator')) is not null
     and to_regrole(quote_ident(prefix || 'reader')) is not null
     and not pg_has_role(prefix || 'operator', prefix || 'reader', 'usage') then
    begin
      execute format('grant %I to %I', prefix || 'reader', prefix || 'operator');
    exception when insufficient_privilege then
      raise notice 'collecta: %operator was not made a member of %reader: %', prefix, prefix, sqlerrm
        using hint = format('As a role that may: grant %I to %I;', prefix || 'reader', prefix || 'operator');
    end;
  end if;
  -- The owner hands written functions to the first two of these, and views to the third.
  begin
    if to_regrole(quote_ident(owner_role)) is not null then
      foreach role_name in array array['capture', 'writer', 'viewer'] loop
        if to_regrole(quote_ident(prefix || role_name)) is not null
           and not pg_has_role(owner_role, prefix || role_name, 'usage') then
          execute format('grant %I to %I', prefix || role_name, owner_role);
        end if;
      end loop;
      if pg_has_role(current_user, owner_role, 'usage') then
        for schema_name in
          select n.nspname from pg_catalog.pg_namespace n
          where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows')
            and n.nspowner <> to_regrole(quote_ident(owner_role))
        loop
          execute format('alter schema %I owner to %I', schema_name, owner_role);
        end loop;
        if (select relowner from pg_catalog.pg_class where oid = 'collecta.migrations'::regclass)
           <> to_regrole(quote_ident(owner_role)) then
          execute format('alter table collecta.migrations owner to %I', owner_role);
        end if;
      end if;
    end if;
  exception
    when insufficient_privilege then
      raise notice 'collecta: everything will belong to % (%)', current_user, sqlerrm;
  end;
end
$$;

-- After a restore without owners, everything belongs to the role that restored it. A migration changes objects as their
-- owner, so they get their owner before it. Only the installer may take them over from the role that has them.
do $$
declare
  prefix constant text := coalesce(nullif(current_setting('collecta.role_prefix', true), ''), 'collecta_');
  owner_role constant text := prefix || 'owner';
  object record;
begin
  if (select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'collecta')
      is not distinct from to_regrole(quote_ident(owner_role))
    and pg_has_role(current_user, owner_role, 'usage')
  then
    for object in
      select
        case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end
          as kind, c.oid::regclass::text as name, owner_role as owner
      from pg_catalog.pg_class c
      where c.relnamespace = 'collecta'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
        and c.relowner <> to_regrole(quote_ident(owner_role))
        -- Views of history go on to another role in repair.sql.
        and not (c.relkind = 'v' and c.relowner is not distinct from to_regrole(quote_ident(prefix || 'viewer')))
        -- A sequence of a column goes with its table. On PostgreSQL 14 a table with a generated column also depends on
        -- a column, its own.
        and not (c.relkind = 'S' and exists (
          select from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
            and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0))
      union all
      select 'type', t.oid::regtype::text, owner_role
      from pg_catalog.pg_type t
      left join pg_catalog.pg_class c on c.oid = t.typrelid
      where t.typnamespace = 'collecta'::regnamespace and t.typelem = 0 and coalesce(c.relkind, 'c') = 'c'
        and t.typowner <> to_regrole(quote_ident(owner_role))
      union all
      select 'function', written.name, written.owner
      from (
        select p.oid::regprocedure::text as name, p.proowner,
          owner_role as owner,
          p.proname ~ '^((write|cast)_inbound|capture)_[0-9]+' as is_written
        from pg_catalog.pg_proc p
        where p.pronamespace in (select n.oid from pg_catalog.pg_namespace n
                                 where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows'))
      ) written
      -- What is written for a module or an inbound endpoint belongs to the role that runs it. Where whoever restored it
      -- has it, it is written anew in repair.sql.
      join pg_catalog.pg_roles r on r.oid = written.proowner
      where r.rolname <> owner_role and (not written.is_written or r.rolsuper or r.rolname = current_user)
    loop
      execute format('alter %s %s owner to %I', object.kind, object.name, object.owner);
    end loop;
    execute format('set local role %I', owner_role);
  end if;
end
$$;
