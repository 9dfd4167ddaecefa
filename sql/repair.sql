-- The last step of every install and upgrade, done also where nothing is pending: what belongs to the install gets the
-- owners, the rows and the privileges that the design says, whatever a restore, a default privilege or a hand has left.
-- It begins as whoever installs, since only that role may take objects over from the one that restored them.
reset role;
do $$
begin
  execute format(
    'create or replace function collecta.installed_migrations() '
    'returns table (filename text, hash text, previous_hash text) language sql immutable '
    'security definer set search_path = pg_catalog, pg_temp as %L',
    (select 'values ' || string_agg(format('(%L, %L, %L::text)', m.filename, m.hash, m.previous_hash), ', '
                                    order by m.filename)
     from collecta.migrations m));
  revoke all on function collecta.installed_migrations() from public;
  comment on function collecta.installed_migrations() is
    'The rows of collecta.migrations once more, as a function: that is also in a copy of the schema alone.';
end
$$;

do $$
declare
  prefix text := 'collecta_';
  owner_role text;
  object record;
begin
  if to_regprocedure('collecta.role_prefix()') is not null then
    execute 'select collecta.role_prefix()' into prefix;
  end if;
  owner_role := prefix || 'owner';
  if to_regrole(quote_ident(owner_role)) is not null and pg_has_role(current_user, owner_role, 'usage') then
    for object in
      select
        case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end
          as kind, c.oid::regclass::text as name, owner_role as owner
      from pg_catalog.pg_class c
      where c.relnamespace = 'collecta'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
        and c.relowner <> to_regrole(quote_ident(owner_role))
        -- Views of history go on to another role below.
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
      -- has it, it is written anew below.
      join pg_catalog.pg_roles r on r.oid = written.proowner
      where r.rolname <> owner_role and (not written.is_written or r.rolsuper or r.rolname = current_user)
    loop
      execute format('alter %s %s owner to %I', object.kind, object.name, object.owner);
    end loop;
  end if;
end
$$;

-- A copy of the schema alone (pg_dump --schema-only) has the triggers and their functions, but neither modules nor
-- endpoints: what it captures leads nowhere. It becomes what a fresh install is.
do $$
declare
  leftover record;
  installations int;
begin
  if to_regclass('collecta.installation') is not null and to_regprocedure('collecta.restore_rows()') is not null then
    execute 'select count(*) from collecta.installation' into installations;
    if installations = 0 then
      for leftover in
        select t.tgname as name, t.tgrelid::regclass as relation
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where not t.tgisinternal and t.tgparentid = 0
          and p.pronamespace in (select n.oid from pg_catalog.pg_namespace n
                                 where n.nspname in ('collecta', 'collecta_modules', 'collecta_rows'))
          and t.tgrelid not in (select c.oid from pg_catalog.pg_class c where c.relnamespace = p.pronamespace)
      loop
        begin
          execute format('drop trigger %I on %s', leftover.name, leftover.relation);
        exception when insufficient_privilege then
          raise notice 'collecta: the trigger % on % is left from another database: %',
            leftover.name, leftover.relation, sqlerrm
            using hint = format('As the owner of the table: drop trigger %I on %s;', leftover.name, leftover.relation);
        end;
      end loop;
      execute 'select from collecta.restore_rows()';
    end if;
  end if;
  if to_regprocedure('collecta.own_views()') is not null then
    execute 'select from collecta.own_views()';
  end if;
  if to_regprocedure('collecta.restore_grants(boolean)') is not null then
    execute 'select from collecta.restore_grants()';
  end if;
  -- Written functions are looked at last: what they refer to may have other numbers after a restore.
  if to_regprocedure('collecta.resolve_modules(boolean)') is not null then
    execute 'select from collecta.resolve_modules()';
  end if;
  if to_regprocedure('collecta.mend_inbound(boolean)') is not null then
    execute 'select from collecta.mend_inbound()';
  end if;
end
$$;
