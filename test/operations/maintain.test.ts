import t from 'tap';
import { useServer } from '../support/database.ts';

const { database } = await useServer();

t.test('when an event trigger refuses DDL, health warns a day ahead and other maintenance goes on', async t => {
  const { sql } = await database();
  const health = async () =>
    (await sql`select severity, problem, subject from collecta.health order by subject`).map(row => ({ ...row }));
  await sql.unsafe(`
    create table t (id int primary key); select collecta.attach_module('t', 't');
    do $$ begin
      -- As it is when maintain has failed since yesterday: the partitions of today and tomorrow are there.
      for days in 2..3 loop
        execute format('drop table collecta.events%1$s, collecta.delivery_attempts%1$s',
          to_char(now() at time zone 'UTC' + make_interval(days => days), '_YYYYMMDD'));
      end loop;
    end $$;
    create table audit_log (tag text);
    create function audit() returns event_trigger language plpgsql as $$ begin
      if tg_tag like '%TABLE' then raise exception 'no DDL without a ticket'; end if; end $$;
    create event trigger audit on ddl_command_end execute function audit();
    update collecta.modules set written_hash = '{}'`);
  t.strictSame(await health().then(rows => rows.filter(({ problem }) => problem.includes('partition'))), [
    { severity: 'warning', problem: 'partitions are not made ahead', subject: 'delivery_attempts' },
    { severity: 'warning', problem: 'partitions are not made ahead', subject: 'events' },
  ]);
  const done = await sql`select done, subject from collecta.maintain()`;
  t.equal(done.filter(row => /^failed to make partition: no DDL without a ticket/.test(row.done)).length, 4);
  t.ok(
    done.some(row => row.done === 'wrote capture functions'),
    'the rest is done',
  );
  await sql`drop event trigger audit`;
  t.equal((await sql`select from collecta.maintain()`).length, 4);
  t.strictSame(await health(), []);
});
