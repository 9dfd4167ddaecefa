import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ConfigError } from '../../src/config.ts';
import { readDatabases } from '../../src/fleet/databases.ts';

const url = (name: string) => `postgres://collecta:s3cret@db.example.com/${name}`;
const env = { COLLECTA_CONCURRENCY: '20', COLLECTA_ENVIRONMENT: 'production', PGHOST: 'elsewhere', DATABASE_URL: '' };

t.test('a list file gives each database a URL or settings; the process’s settings fill the rest', async t => {
  const folder = t.testdir({
    'databases.json': JSON.stringify({
      eu: url('eu'),
      us: { DATABASE_URL: url('us'), COLLECTA_CONCURRENCY: 5, COLLECTA_INBOUND_HOST: 'Hooks.US.example.com' },
    }),
  });
  const { members, problems } = readDatabases(join(folder, 'databases.json'), env);
  t.equal(problems.size, 0);
  t.same([...members.keys()], ['eu', 'us']);
  t.match(members.get('eu'), { config: { databaseUrl: url('eu'), concurrency: 20, environment: 'production' } });
  t.match(members.get('us'), { config: { concurrency: 5 }, inboundHost: 'hooks.us.example.com' });
});

t.test('a directory has one file for each database; hidden files, as in Kubernetes, are ignored', async t => {
  const folder = t.testdir({
    eu: `${url('eu')}\n`,
    'us.json': JSON.stringify({ DATABASE_URL: url('us') }),
    '..data': 'x',
  });
  mkdirSync(join(folder, '..2026'));
  const { members, problems } = readDatabases(folder, env);
  t.equal(problems.size, 0);
  t.same([...members.keys()].sort(), ['eu', 'us']);
});

t.test('an invalid entry is reported without its secrets and does not affect the others', async t => {
  const folder = t.testdir({
    good: url('good'),
    'BAD name': url('x'),
    nothing: '',
    port: 'postgres://collecta:s3cret@db.example.com:99999/x',
    json: '{"DATABASE_URL": "postgres://collecta:s3cret@db',
    process: JSON.stringify({ DATABASE_URL: url('x'), COLLECTA_PORT: '80' }),
    without: JSON.stringify({ COLLECTA_CONCURRENCY: '5' }),
    number: JSON.stringify({ DATABASE_URL: url('x'), COLLECTA_CONCURRENCY: 'many' }),
    missing: JSON.stringify({ DATABASE_URL_FILE: '/nowhere' }),
    'twice.txt': url('a'),
    'twice.json': url('b'),
  });
  const { members, problems } = readDatabases(folder, env);
  t.same([...members.keys()], ['good', 'twice']);
  t.same([...problems.keys()].sort(), [
    'BAD name',
    'json',
    'missing',
    'nothing',
    'number',
    'port',
    'process',
    'twice',
    'without',
  ]);
  t.match(problems.get('process'), /COLLECTA_PORT cannot be set for one database/);
  t.match(problems.get('without'), /DATABASE_URL.* is not set/);
  for (const [name, reason] of problems) t.notMatch(reason, /s3cret/, name);
});

t.test('an unreadable list is an error whose message holds no secret', async t => {
  const folder = t.testdir({ list: '["postgres://a:s3cret@b/c"]', broken: '{"a": "postgres://a:s3cret@b/c' });
  for (const path of [join(folder, 'nowhere'), join(folder, 'list'), join(folder, 'broken')]) {
    t.throws(() => readDatabases(path, env), ConfigError, path);
    try {
      readDatabases(path, env);
    } catch (error) {
      t.notMatch((error as Error).message, /s3cret/);
    }
  }
  writeFileSync(join(folder, 'empty'), '{}');
  t.equal(readDatabases(join(folder, 'empty'), env).members.size, 0);
});
