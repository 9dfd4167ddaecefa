// npm run bench -- [write|drain|latency|backlog|inbound|replicas|memory|idle …]   all without a name
import { parseArgs } from 'node:util';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    repetitions: { type: 'string' },
    only: { type: 'string' },
    seconds: { type: 'string' },
    rates: { type: 'string' },
  },
});
const names =
  positionals.length > 0
    ? positionals
    : ['write', 'drain', 'latency', 'backlog', 'inbound', 'replicas', 'memory', 'idle'];
const options = {
  ...(values.repetitions && { repetitions: Number(values.repetitions) }),
  ...(values.only && { only: values.only }),
  ...(values.rates && { rates: values.rates.split(',').map(Number) }),
  ...(values.seconds && { seconds: Number(values.seconds) }),
};
for (const name of names) {
  const benchmark = (await import(`./${name}.ts`))[name] as (given: typeof options) => Promise<void>;
  await benchmark(options);
}
process.exit(0);
