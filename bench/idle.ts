import { prepare } from './drain.ts';
import { pause, save, startBenchServer, startReceiver, startRunner, stop, Table, until } from './support.ts';

/** What a sleeping runner asks of the database, after it has delivered something. */
export async function idle({ seconds = 30 } = {}): Promise<void> {
  const server = await startBenchServer();
  const receiver = await startReceiver();
  const { url, sql } = await server.database();
  await prepare(sql, receiver.url);
  const child = startRunner('node', url);
  await pause(3_000);
  await sql`insert into work_orders (status) values ('open')`;
  await until('the delivery', async () => (await receiver.count()).count === 1);
  const activity = async () => {
    const [row] =
      await sql`select xact_commit + xact_rollback as transactions, tup_inserted + tup_updated + tup_deleted as writes from pg_stat_database where datname = current_database()`;
    return { transactions: Number(row?.transactions), writes: Number(row?.writes) };
  };
  await pause(10_000);
  await activity();
  await pause(1_500);
  const before = await activity();
  await pause(seconds * 1_000);
  const after = await activity();
  const table = new Table(`Asleep for ${seconds} s, the benchmark's one question included`, 'a second', 'transactions');
  table.add('transactions', (after.transactions - before.transactions) / seconds);
  table.add('rows written', (after.writes - before.writes) / seconds);
  await stop(child);
  await sql.end();
  receiver.stop();
  await server.stop();
  save('idle', [table]);
}
