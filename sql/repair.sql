-- The last step of every install and upgrade, done also where nothing is pending: what belongs to the install gets the
-- owners, the rows and the privileges that the design says, whatever a restore, a default privilege or a hand has left.
-- It begins as whoever installs, since only that role may take objects over from the one that restored them.
reset role;
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
        -- A sequence of a column goes with its table.
        and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass
                        and d.objid = c.oid and d.deptype in ('a', 'i')
                        and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0)
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
          -- What is written for a module or an inbound endpoint runs as a role that can do nothing else.
          case when p.proname ~ '^capture_[0-9]+' and to_regrole(quote_ident(prefix || 'capture')) is not null
              then prefix || 'capture'
            when p.proname ~ '^(write|cast)_inbound_[0-9]+' and to_regrole(quote_ident(prefix || 'writer')) is not null
              then prefix || 'writer'
            else owner_role end as owner
        from pg_catalog.pg_proc p
        where p.pronamespace in (select n.oid from pg_catalog.pg_namespace n
                                 where n.nspname in ('collecta', 'collecta_modules'))
      ) written
      where written.proowner <> to_regrole(quote_ident(written.owner))
    loop
      -- A new owner needs CREATE on the schema, which the owners of written functions have only for this.
      if object.owner <> owner_role then
        execute format('grant create on schema collecta to %I', object.owner);
      end if;
      execute format('alter %s %s owner to %I', object.kind, object.name, object.owner);
      if object.owner <> owner_role then
        execute format('revoke create on schema collecta from %I', object.owner);
      end if;
    end loop;
  end if;
  if to_regprocedure('collecta.restore_grants(boolean)') is not null then
    execute 'select from collecta.restore_grants()';
  end if;
end
$$;
