// npm run bench -- [write drain latency route replicas backlog inbound memory idle fleet views …]
//   Runs the named benches, or all of them.
// npm run bench -- compare --with FOLDER [write drain latency route replicas inbound]
//   Compares this commit with another one, whose checkout is in FOLDER.
// npm run bench -- page
//   Fills the tables of docs/performance.md and docs/fleet.md.
// Options: --rounds 9 --seed 1 --seconds S --size N --only NAME
import { parseArgs } from 'node:util';
import { writePages } from './page.ts';
import { openCheckout, thisCheckout } from './product.ts';
import { type Options, type Outcome, save } from './results.ts';

const all = [
  'write',
  'drain',
  'latency',
  'route',
  'replicas',
  'backlog',
  'inbound',
  'memory',
  'idle',
  'fleet',
  'views',
];
const compared = ['drain', 'write', 'latency', 'route', 'replicas', 'inbound'];

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    seed: { type: 'string' },
    seconds: { type: 'string' },
    size: { type: 'string' },
    only: { type: 'string' },
    with: { type: 'string' },
  },
});
const comparing = positionals[0] === 'compare';
const names = comparing ? positionals.slice(1) : positionals;
const options: Options = {
  ...(values.rounds && { rounds: Number(values.rounds) }),
  ...(values.seed && { seed: Number(values.seed) }),
  ...(values.seconds && { seconds: Number(values.seconds) }),
  ...(values.size && { size: Number(values.size) }),
  ...(values.only && { only: values.only }),
  ...(comparing && values.with && { checkouts: [openCheckout(values.with), { ...thisCheckout, name: 'this commit' }] }),
};
const unknown = names.filter(name => !(comparing ? compared : [...all, 'page']).includes(name));
if (unknown.length > 0 || comparing !== (values.with !== undefined)) {
  console.error(`Usage: npm run bench -- [${all.join('|')}|page …] [compare --with FOLDER ${compared.join('|')}]`);
  process.exit(2);
}

const run = async (name: string): Promise<Outcome> => (await import(`./${name}.ts`))[name](options);
if (names.includes('page')) writePages();
else if (comparing) {
  const comparisons = [];
  for (const name of names.length > 0 ? names : compared) comparisons.push(...(await run(name)).comparisons);
  save('compare', { comparisons });
} else for (const name of names.length > 0 ? names : all) save(name, await run(name));
process.exit(0);
