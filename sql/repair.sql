-- The last step of every install and upgrade, done also where nothing is pending: what belongs to the install gets the
-- rows and the privileges that the design says, whatever a restore, a default privilege or a hand has left.
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

-- The rest runs as whoever installs, who may drop triggers of a table.
reset role;
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
