/** How much of the database each page of the console reads, as pg_stat_statements counts it. */
import t from 'tap';
import { enterConsole, pagesOf } from '../../bench/views.ts';
import { useServer } from '../support/database.ts';
import { fillHistory } from '../support/history.ts';

const { database } = await useServer(['-c', 'shared_preload_libraries=pg_stat_statements', '-c', 'jit=off']);
const size = 5_000;
const growth = 8;
/** Lists whose filter no index answers. They look through a bounded number of attempts, and say so. */
const looksThrough = /^(failed|lost|status|an event|a module)|contains|blocked$/;
const mostBlocks = 30_000;

/** Blocks that each page reads, by its name. */
async function blocksRead(attempts: number): Promise<Map<string, number>> {
  const { sql, url } = await database();
  await sql`create extension pg_stat_statements`;
  await fillHistory(sql, { endpoints: 300, attempts, days: 15 });
  await sql`vacuum analyze`;
  const reader = await enterConsole(url, sql);
  const blocks = new Map<string, number>();
  for (const [name, path] of await pagesOf(sql)) {
    await reader.read(path); // plans its statements
    await sql`select pg_stat_statements_reset()`;
    await reader.read(path);
    const [row] = await sql`
      select sum(shared_blks_hit + shared_blks_read)::float8 as blocks from pg_stat_statements
      where dbid = (select oid from pg_database where datname = current_database())
        and userid = 'bench_reader'::regrole`;
    blocks.set(name, row!.blocks);
  }
  await reader.close();
  return blocks;
}

t.test('no page counts or scans the history: with eight times as much of it, none reads twice as much', async t => {
  const small = await blocksRead(size);
  const large = await blocksRead(size * growth);
  for (const [name, blocks] of small) {
    const more = large.get(name)!;
    t.comment(`${name}: ${blocks} blocks of 8 kB, then ${more}`);
    t.ok(more <= (looksThrough.test(name) ? mostBlocks : 2 * blocks + 500), `${name}: ${blocks} blocks, then ${more}`);
  }
});
