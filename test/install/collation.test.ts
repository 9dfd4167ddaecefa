/**
 * Nothing in the schema may depend on the database's collation: in tr-TR `upper('i')` is not `I`, and in `lt` y sorts
 * before k. So every text column has collation C, and every expression that maps case, matches character classes or
 * sorts says `collate "C"`. Equality is not checked, because a database's default collation always compares bytes for
 * equality.
 */
import t from 'tap';
import { type Sql, useServer } from '../support/database.ts';
import { roundTrip } from '../support/round-trip.ts';

const prefix = 'line of ';
// Server processes share one pipe, in which a long line can be mixed with another process's. The logging collector's
// file has whole lines.
const settings = { log_line_prefix: `${prefix}%a|`, logging_collector: 'on', log_rotation_size: '0' };
const { server, admin, connect, database } = await useServer(
  Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
);

/** PostgreSQL prints a parse tree as `{NAME :field value …}`, lists in parentheses, and bare words. */
type Tree = { node: string; fields: Map<string, Value> };
type Value = string | Value[] | Tree;

function parseTree(text: string): Value[] {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|(?:\\.|[^\s(){}])+|[(){}]/g) ?? [];
  let next = 0;
  const value = (): Value => {
    const token = tokens[next++];
    if (token === undefined) throw new Error('the parse tree is torn');
    if (token === '(') {
      const list: Value[] = [];
      while (tokens[next] !== ')') list.push(value());
      next++;
      return list;
    }
    if (token !== '{') return token;
    const tree: Tree = { node: tokens[next++]!, fields: new Map() };
    while (tokens[next] !== '}') {
      const field = tokens[next++]!.slice(1);
      const values: Value[] = [];
      while (tokens[next] !== '}' && !tokens[next]!.startsWith(':')) values.push(value());
      tree.fields.set(field, values.length === 1 ? values[0]! : values);
    }
    next++;
    return tree;
  };
  const all: Value[] = [];
  while (next < tokens.length) all.push(value());
  return all;
}

const isTree = (value: Value | undefined): value is Tree => typeof value === 'object' && !Array.isArray(value);

function* trees(value: Value): Generator<Tree> {
  if (Array.isArray(value)) for (const each of value) yield* trees(each);
  else if (isTree(value)) {
    yield value;
    for (const each of value.fields.values()) yield* trees(each);
  }
}

/** The oid of an expression's collation. 100 is the database's default collation. */
function collationOf(expression: Value | undefined): string {
  if (!isTree(expression)) return '0';
  for (const [field, value] of expression.fields)
    if (/coll(id|ation)$|collOid$/.test(field) && field !== 'inputcollid') return String(value);
  return isTree(expression.fields.get('arg')) ? collationOf(expression.fields.get('arg')) : '0';
}

const sensitive = new RegExp(
  '^(upper|lower|initcap|text_?(lt|le|gt|ge|larger|smaller)|(text|name|bpchar)?ic(not)?(like|regexeq|regexne)|' +
    '.*iclike|.*icnlike|.*regex(eq|ne)|regexp_.*|similar_.*|substring|max|min|textlt|bttextcmp|rank|dense_rank|' +
    'to_tsvector)$',
);

/** The parts of this statement that depend on the database's collation. */
function dependencies(text: string, functions: Map<string, string>): string[] {
  const found: string[] = [];
  const sorts = (list: Value | undefined, targets: Value | undefined, what: string) => {
    for (const clause of Array.isArray(list) ? list : []) {
      if (!isTree(clause)) continue;
      const reference = clause.fields.get('tleSortGroupRef');
      for (const entry of Array.isArray(targets) ? targets : [])
        if (isTree(entry) && entry.fields.get('ressortgroupref') === reference)
          if (collationOf(entry.fields.get('expr')) === '100')
            found.push(`${what} ${[entry.fields.get('resname')].flat().join(' ')}`);
    }
  };
  for (const tree of trees(parseTree(text))) {
    const { fields } = tree;
    const called = fields.get('opfuncid') ?? fields.get('funcid') ?? fields.get('aggfnoid') ?? fields.get('winfnoid');
    if (fields.get('inputcollid') === '100') {
      const name = functions.get(String(called)) ?? '';
      const regexClass = /regex|substring/.test(name);
      if (tree.node.startsWith('MINMAX')) found.push('greatest or least');
      else if (sensitive.test(name) && !(regexClass && plainPattern(fields.get('args'), name))) found.push(name);
    }
    if (tree.node === 'QUERY') {
      sorts(fields.get('sortClause'), fields.get('targetList'), 'order by');
      for (const window of [fields.get('windowClause') ?? []].flat())
        if (isTree(window)) sorts(window.fields.get('orderClause'), fields.get('targetList'), 'window order by');
    }
    if (tree.node === 'AGGREF') sorts(fields.get('aggorder'), fields.get('args'), 'aggregate order by');
  }
  return found;
}

/**
 * Whether a regular expression means the same under every collation: it has no classes or boundaries and does not
 * ignore case.
 */
function plainPattern(args: Value | undefined, name: string): boolean {
  const pattern = Array.isArray(args) ? args[1] : undefined;
  if (/^ic/.test(name) || /icregex/.test(name) || !isTree(pattern) || pattern.node !== 'CONST') return false;
  const bytes = [pattern.fields.get('constvalue') ?? []].flat().map(Number).filter(Number.isFinite);
  return !/\[[:.=]|\\[wWdDsSmMyY]|^\(\?[a-z]+\)/.test(Buffer.from(bytes.slice(5)).toString());
}

async function functionNames(sql: Sql): Promise<Map<string, string>> {
  return new Map((await sql`select oid::text, proname from pg_proc`).map(row => [row.oid, row.proname]));
}

/** The places in a function's source that depend on the collation and lack collate "C". */
function carelessUses(source: string): string[] {
  const text = source.replace(/--.*$/gm, '');
  const found: string[] = [];
  const pinned = /collate "C"/;
  for (const match of text.matchAll(/\b(upper|lower|initcap|to_tsvector)\s*\(/gi)) {
    let depth = 1;
    let end = match.index + match[0].length;
    for (; depth > 0 && end < text.length; end++) depth += text[end] === '(' ? 1 : text[end] === ')' ? -1 : 0;
    if (!pinned.test(text.slice(match.index, end))) found.push(text.slice(match.index, end));
  }
  for (const match of text.matchAll(/(\bilike\b|\bsimilar to\b|!?~~?\*)\s*('(?:[^']|'')*')?/gi))
    if (!pinned.test(text.slice(match.index, match.index + match[0].length + 12))) found.push(match[0]);
  // A hint such as '\\d %s' is a psql command, not SQL.
  for (const match of text.matchAll(/'(?:[^']|'')*(?:\[\[?[:.=]|\\[wWdDsSmMyY])(?:[^']|'')*'/g))
    if (
      !match[0].startsWith("'\\d ") &&
      !pinned.test(text.slice(Math.max(0, match.index - 60), match.index + match[0].length + 12))
    )
      found.push(match[0]);
  return found;
}

t.test('the search for collation dependencies finds known ones', async t => {
  const { sql } = await database('empty');
  const functions = await functionNames(sql);
  await sql`create table words (word text, safe text collate "C")`;
  const say = async (query: string) => {
    await sql.unsafe(`create or replace view v as ${query}`);
    const [view] = await sql`select ev_action::text as tree from pg_rewrite where ev_class = 'v'::regclass`;
    await sql`drop view v`;
    return dependencies(view!.tree, functions);
  };
  for (const query of [
    'select upper(word) as a from words',
    `select word ~* 'a' as a from words`,
    `select word ~ '[[:space:]]' as a from words`,
    `select word ilike 'a' as a from words`,
    'select 1 as a from words order by word',
    'select string_agg(word, $$,$$ order by word) as a from words',
    'select row_number() over (order by word) as a from words',
    'select min(word) as a from words',
    'select greatest(word, $$b$$) as a from words',
    'select word < $$b$$ as a from words',
  ])
    t.not((await say(query)).length, 0, query);
  for (const query of [
    'select upper(safe) as a from words order by safe',
    'select upper(word collate "C") as a, min(word collate "C") as b from words group by 1 order by 1',
    `select word ~ '^a+$' as a, word = 'a' as b, word like 'a%' as c, max(length(word)) as d from words group by word`,
    'select relname as a from pg_class order by relname',
  ])
    t.strictSame(await say(query), [], query);
  t.equal(carelessUses(`select upper(a)`).length, 1);
  t.equal(carelessUses(`select x ~* 'b', y ~ '[[:space:]]' and z ilike 'c'`).length, 3);
  t.equal(carelessUses(`select lower(a collate "C"), x ~* 'b' collate "C", y ~ '[[:space:]]' collate "C"`).length, 0);
});

t.test('no text column, view, constraint, index or default depends on the default collation', async t => {
  const { sql } = await database();
  const functions = await functionNames(sql);
  t.strictSame(
    [
      ...(await sql`
        select a.attrelid::regclass::text || '.' || a.attname as column
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'collecta'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0
          and a.attcollation = 'pg_catalog."default"'::regcollation order by 1`),
    ],
    [],
    'every text column of a table says collate "C"',
  );
  const stored = await sql<{ what: string; tree: string }[]>`
    select ev_class::regclass::text as what, ev_action::text as tree from pg_rewrite
    where ev_class in (select oid from pg_class where relnamespace = 'collecta'::regnamespace)
    union all select conname, conbin::text from pg_constraint
      where connamespace = 'collecta'::regnamespace and conbin is not null
    union all select indexrelid::regclass::text, concat(indexprs::text, indpred::text) from pg_index
      where indexrelid in (select oid from pg_class where relnamespace = 'collecta'::regnamespace)
    union all select adrelid::regclass || ' default', adbin::text from pg_attrdef
      where adrelid in (select oid from pg_class where relnamespace = 'collecta'::regnamespace)
    union all select proname, prosqlbody::text from pg_proc
      where pronamespace = 'collecta'::regnamespace and prosqlbody is not null`;
  t.ok(stored.length > 30);
  for (const { what, tree } of stored) t.strictSame(dependencies(tree, functions), [], what);
});

t.test('no function’s source depends on the default collation', async t => {
  const { sql } = await database();
  const functions = await sql`select proname, prosrc from pg_proc where pronamespace = 'collecta'::regnamespace`;
  t.ok(functions.length > 60);
  for (const { proname, prosrc } of functions) t.strictSame(carelessUses(prosrc), [], proname);
});

t.test('no statement of a round trip, as PostgreSQL parses it, depends on the default collation', async t => {
  const target = await database();
  const functions = await functionNames(target.sql);
  await admin.unsafe(`alter database ${target.name} set debug_print_parse = on`);
  await admin.unsafe(`alter database ${target.name} set debug_pretty_print = off`);
  const before = (await server.readLog()).length;
  // Sessions that begin from now on have the settings.
  await roundTrip({ url: target.url, sql: connect(target.url) });
  const statements = new Set<string>();
  const lines = (await server.readLog()).slice(before).split(`\n${prefix}`);
  for (const [index, line] of lines.entries()) {
    if (!/^[^|]*\|LOG: {2}parse tree:/.test(line)) continue;
    const tree = lines[index + 1] ?? '';
    const within = lines.slice(index + 2, index + 4).find(next => next.includes('|CONTEXT:')) ?? '';
    if (!/collecta/.test(within) && !line.startsWith('collecta-webhooks')) continue;
    statements.add(`${/CONTEXT: (.*)/.exec(within)?.[1] ?? 'src'}\n${tree.slice(tree.indexOf('{'))}`);
  }
  t.ok(statements.size > 300, `${statements.size} different statements were looked at`);
  const found = new Set<string>();
  for (const statement of statements) {
    const [context, ...tree] = statement.split('\n');
    for (const dependency of dependencies(tree.join('\n'), functions)) found.add(`${dependency}: ${context}`);
  }
  t.strictSame([...found], []);
});
