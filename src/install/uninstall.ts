import { setTimeout as pause } from 'node:timers/promises';
import { connect, type Sql } from '../database/connect.ts';

/**
 * The roles that sql/prepare.sql may have created, without their prefix. Roles belong to the whole server, so other
 * databases may use them too.
 */
const roles = ['owner', 'capture', 'writer', 'viewer', 'dispatcher', 'inbound', 'reader', 'operator'];

export type Plan = {
  /** Our functions that triggers on the user's tables call. Dropping a function drops its triggers. */
  captures: { procedure: string; tables: string[] }[];
  /** Objects outside our schemas that use them and would be dropped with them, such as column defaults and views. */
  dependents: string[];
  tables: number;
  size: string;
  roles: string[];
};

/** What `uninstall` would drop; undefined if collecta is not installed. */
export async function planUninstall(sql: Sql): Promise<Plan | undefined> {
  const [schema] = await sql<{ tables: number; size: string }[]>`
    select count(c.oid)::int as tables, pg_size_pretty(coalesce(sum(pg_total_relation_size(c.oid)), 0)) as size
    from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
    where n.nspname = 'collecta' group by n.oid`;
  if (!schema) return undefined;
  const captures = await sql<Plan['captures']>`
    select p.oid::regprocedure::text as procedure, array_agg(distinct t.tgrelid::regclass::text) as tables
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class c on c.oid = t.tgrelid
    where p.pronamespace in (select oid from pg_namespace where nspname in ('collecta', 'collecta_modules'))
      and c.relnamespace <> 'collecta'::regnamespace
    group by p.oid order by 2, 1`;
  const dependents = await sql<{ description: string }[]>`
    with recursive ours(class, id) as (
      select 'pg_namespace'::regclass::oid, oid from pg_namespace
      where nspname in ('collecta', 'collecta_modules', 'collecta_rows')
      union
      select next.* from ours, lateral (
        select classid, objid from pg_depend where refclassid = ours.class and refobjid = ours.id
        union all -- a view depends on us through its rule, and is dropped with it
        select refclassid, refobjid from pg_depend where classid = ours.class and objid = ours.id and deptype = 'i'
      ) as next
    )
    select pg_describe_object(class, id, 0) as description
    from ours, lateral pg_identify_object(class, id, 0) as object
    where object.type not in ('rule', 'type', 'trigger', 'schema', 'default acl')
      and object.identity !~ '(^|[ ",(])(collecta|collecta_modules|collecta_rows|pg_toast)[.]'
    order by 1`;
  const [prefix] = await sql<{ function: string | null }[]>`
    select to_regprocedure('collecta.role_prefix()')::text as function`;
  const [setting] = prefix?.function ? await sql`select collecta.role_prefix() as prefix` : [{ prefix: 'collecta_' }];
  const names = roles.map(name => `${setting?.prefix}${name}`);
  const existing = await sql<{ rolname: string }[]>`
    select rolname from pg_roles where rolname = any(${names}) order by 1`;
  return {
    ...schema,
    captures,
    dependents: dependents.map(row => row.description),
    roles: existing.map(row => row.rolname),
  };
}

/**
 * Removes collecta from the database: first the triggers table by table, then the schemas with all history, then the
 * roles that nothing else needs. Calls `say` after each step. Returns whether all roles were dropped.
 */
export async function uninstall(sql: Sql, plan: Plan, say: (line: string) => void): Promise<boolean> {
  /**
   * Runs a DROP. While it waits for a lock, writers queue behind it. So it gives up soon, lets them pass and retries.
   */
  async function drop(statement: string) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await sql.begin(tx =>
          tx.unsafe(`set local lock_timeout = '2s'; set local statement_timeout = 0; ${statement}`),
        );
      } catch (error) {
        if ((error as { code?: string }).code !== '55P03' || attempt === 20) throw error;
        await pause(500);
      }
    }
  }

  for (const { procedure, tables } of plan.captures) {
    await drop(`drop function if exists ${procedure} cascade`);
    say(`detached ${tables.join(', ')}: ${procedure}`);
  }
  await drop(`select pg_advisory_xact_lock(1668246636, 4);
    drop schema if exists collecta_rows, collecta_modules, collecta cascade`);
  say('dropped the schema collecta');

  let complete = true;
  for (const role of plan.roles) {
    try {
      const [owned] = await sql`
        select from pg_shdepend join pg_roles r on r.oid = refobjid
        where refclassid = 'pg_authid'::regclass and deptype = 'o' and r.rolname = ${role} limit 1`;
      if (owned) throw new Error('it owns other objects');
      // Only privileges are left to it in this database; those in other databases make DROP ROLE refuse. DROP OWNED
      // needs the rights of the role, which before PostgreSQL 16 not everybody has who may drop it.
      await sql.unsafe(`drop role ${role}`).catch(() => sql.unsafe(`drop owned by ${role}; drop role ${role}`));
      say(`dropped the role ${role}`);
    } catch (error) {
      complete = false;
      say(`kept the role ${role}: ${(error as Error).message}`);
    }
  }
  return complete;
}

/**
 * Prints what would be dropped, or with `yes` drops it. Returns the exit status: 0 if collecta is no longer installed,
 * 1 if nothing was dropped.
 */
export async function uninstallCommand(url: string, yes: boolean, say: (line: string) => void): Promise<number> {
  const sql = connect(url, { max: 1 });
  try {
    // `max: 1` makes this the only session. With this search_path no function or operator of another schema is called.
    await sql`set search_path = pg_catalog, pg_temp`;
    const plan = await planUninstall(sql);
    if (!plan) {
      say('collecta is not installed in this database');
      return 0;
    }
    if (yes) {
      const complete = await uninstall(sql, plan, say);
      if (!complete) say('A kept role does no harm; drop it by hand once nothing needs it.');
      return 0;
    }
    say('Would detach collecta from:');
    for (const table of new Set(plan.captures.flatMap(each => each.tables))) say(`  ${table}`);
    say(
      `Would drop the schema collecta: ${plan.tables} tables with the outbox, the queue and all history, ${plan.size}.`,
    );
    if (plan.dependents.length > 0) say('Would drop with it what uses it:');
    for (const dependent of plan.dependents) say(`  ${dependent}`);
    if (plan.roles.length > 0)
      say(`Would drop these roles, unless something else needs them: ${plan.roles.join(', ')}.`);
    say('Nothing was dropped. To do it: collecta-webhooks uninstall --yes');
    return 1;
  } finally {
    await sql.end({ timeout: 5 });
  }
}
