import t from 'tap';
import { type Sql, useServer } from '../support/database.ts';

const { database } = await useServer(['-c', 'track_functions=all']);

/** Attaches new tables m<first> to m<last>. */
async function attach(sql: Sql, first: number, last: number): Promise<void> {
  await sql.unsafe(`do $$ begin
    for i in ${first}..${last} loop
      execute format('create table public.m%s (id int primary key, name text, status text)', i);
      perform collecta.attach_module(format('public.m%s', i)::regclass, 'm' || i, status_column => 'status');
    end loop;
  end $$`);
  await sql`vacuum analyze`;
}

t.test('the time of health grows with the number of modules and not with its square', async t => {
  const { sql } = await database();
  // The best of several: other processes can only make it longer.
  const best = async () => {
    const times: number[] = [];
    for (let i = 0; i < 6; i++) {
      const start = performance.now();
      t.strictSame([...(await sql`select * from collecta.health`)], []);
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  };
  await attach(sql, 1, 40);
  const few = await best();
  await attach(sql, 41, 1000);
  const many = await best();
  t.comment(`health takes ${few.toFixed(1)} ms with 40 modules and ${many.toFixed(1)} ms with 1000`);
  t.ok(many < 25 * few, `health takes ${many} ms with 25 times the modules instead of ${few} ms`);
});

t.test('an endpoint of many modules looks up once for each what its functions call', async t => {
  const { sql } = await database();
  const count = 30;
  await attach(sql, 1, count);
  const [calls] = await sql.begin(async sql => {
    await sql`select collecta.create_endpoint('https://example.com', '{record_created,record_updated,record_deleted}')`;
    // Within the transaction the calls are still counted in this session.
    return sql`
      select pg_stat_get_xact_function_calls('collecta.called_functions(text)'::regprocedure)::int as called,
        pg_stat_get_xact_function_calls('collecta.plan_dependencies(text[], oid)'::regprocedure)::int as dependencies`;
  });
  t.strictSame({ ...calls }, { called: count, dependencies: count });
});
