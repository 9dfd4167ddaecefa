import t from 'tap';
import { useServer } from '../support/database.ts';

const { connect, database } = await useServer();

t.test('a Neon branch, with its parent’s system identifier and database oid, sends nothing', async t => {
  const { sql, name, url } = await database();
  const timeline = (id: string) => sql.unsafe(`alter database ${name} set neon.timeline_id = '${id}'`);
  // A session reads this when it begins. On Neon it is a setting of the server.
  const asked = async (query: string) => {
    const session = connect(url, { max: 1 });
    try {
      return await session.unsafe(query);
    } finally {
      await session.end();
    }
  };
  const refusal = () =>
    asked('select collecta.check_installation(null)').then(
      () => undefined,
      error => error.code as string,
    );
  await timeline('11111111');
  t.equal(await refusal(), 'CW040', 'an install that knew no timeline');
  await asked('select collecta.resume_after_restore()');
  t.equal(await refusal(), undefined);
  await timeline('22222222');
  t.equal(await refusal(), 'CW040');
  const claimed = await asked('select * from collecta.claim_deliveries(10)').catch(error => error.code);
  t.equal(claimed, 'CW040');
  t.match(await asked(`select problem from collecta.health where problem = 'database is a copy'`), { length: 1 });
  await asked('select collecta.resume_after_restore()');
  t.equal(await refusal(), undefined);
  t.equal((await asked('select branch from collecta.installation'))[0]!.branch, '22222222');
  await timeline('11111111');
  await asked('select collecta.disable_copy()');
  t.equal((await asked('select delivers from collecta.installation'))[0]!.delivers, false);
});
