import postgres from 'postgres';
import type { Test } from 'tap';
import { readFigures, showMetrics } from '../../src/operations/metrics.ts';
import { tail } from '../../src/operations/tail.ts';
import { refusal } from './changes.ts';
import { openConsole } from './console.ts';
import type { Sql } from './database.ts';
import { until } from './runner.ts';

export type Read = { where: string; text: string }[];

/**
 * Everything that a session may read of our schema, as the catalog lists it: each column of each table and view, the
 * statistics of it, and what each callable function returns or raises when it is called with every argument from `ids`.
 */
export async function allThatIsRead(sql: Sql, ids: string[]): Promise<Read> {
  const readable = await sql<{ relation: string; columns: string[] }[]>`
    select format('%I.%I', n.nspname, c.relname) as relation,
      array_agg(quote_ident(a.attname) order by a.attnum) as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
    where n.nspname like 'collecta%' and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped
      and has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')
    group by 1 order by 1`;
  const found: Read = [];
  const read = async (where: string, statement: string, asked = '') => {
    // What an answer repeats of its question reveals nothing.
    const told = (text: string) => (asked === '' ? text : text.replaceAll(asked, ''));
    let rows: Iterable<{ text?: string | null }> = [];
    const undone = new Error('undone');
    const error = await refusal(
      sql
        .begin(async tx => {
          rows = (await tx.unsafe(statement)) as never;
          throw undone;
        })
        .catch(error => {
          if (error !== undone) throw error;
        }),
    );
    found.push({ where, text: told([...rows].map(row => row.text ?? '').join('\n')) });
    if (error)
      found.push({ where: `refusal of ${where}`, text: told(`${error.message} ${error.detail} ${error.hint}`) });
  };
  for (const { relation, columns } of readable) {
    const texts = columns.map(name => `string_agg(${name}::text, E'\\n')`);
    const before = found.length;
    await read(relation, `select json_build_array(${texts})::text as text from ${relation}`);
    const [whole] = found.splice(before, 1);
    for (const [i, text] of (JSON.parse(whole!.text || '[]') as (string | null)[]).entries())
      found.push({ where: `${relation}.${columns[i]}`, text: text ?? '' });
  }
  await read(
    'statistics',
    `select concat_ws(' ', tablename, attname, most_common_vals::text, histogram_bounds::text) as text from pg_stats
     where schemaname like 'collecta%'`,
  );
  const functions = await sql`
    select p.oid::regproc::text as name, array(select format_type(a, null) from unnest(p.proargtypes) a) as types,
      p.pronargs - p.pronargdefaults as needed
    from pg_proc p where p.pronamespace = 'collecta'::regnamespace and p.prokind = 'f'
      and has_function_privilege(p.oid, 'execute') and p.prorettype <> 'trigger'::regtype order by 1`;
  for (const { name, types, needed } of functions)
    for (const id of needed === 0 ? [undefined, ...ids] : ids) {
      const given = id === undefined ? [] : (types as string[]);
      const values = given.map(type =>
        type === 'text' || type === 'name' ? `'${id}'`
        : type.startsWith('json') ? `'{"id": "${id}"}'::${type}`
        : `null::${type}`,
      ); // biome-ignore format: one line a kind
      await read(`${name} of ${id}`, `select f::text as text from ${name}(${values}) f`, id);
    }
  return found;
}

/** What the console shows to a login: every page, each detail page in `paths`, the metrics and `tail`. */
export async function allThatIsShown(session: { url: string; name: string }, paths: string[], t: Test): Promise<Read> {
  const { client } = await openConsole(t, session.url);
  const person = client();
  t.equal((await person.login(session.name, 'x')).status, 303, `${session.name} logs in`);
  const shown: Read = [];
  for (const path of paths) shown.push({ where: `console ${path}`, text: await person.text(`/console/${path}`) });
  const own = session.url.replace('postgres:postgres@', `${session.name}:x@`);
  const sql = postgres(own, { max: 1 });
  shown.push({ where: 'metrics', text: await showMetrics(await readFigures(sql as never)) });
  await sql.end();
  const stop = new AbortController();
  const lines: string[] = [];
  const tailing = tail(own, { endpoint: undefined, failed: false, last: 100 }, stop.signal, line => lines.push(line));
  await until('tail prints', () => lines.length > 0);
  stop.abort();
  await tailing;
  shown.push({ where: 'tail', text: lines.join('\n') });
  return shown;
}

export const whereIs = (read: Read, markers: string[]) =>
  read.filter(({ text }) => markers.some(marker => text.includes(marker))).map(({ where }) => where);
