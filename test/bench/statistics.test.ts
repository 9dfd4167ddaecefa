import t from 'tap';
import { describeRatio, takeTurns } from '../../bench/rounds.ts';
import { differs, quantile, ratios, seeded, shuffled, spread } from '../../bench/statistics.ts';

t.test('a median of an even number of values lies between the middle two; quartiles are interpolated', async t => {
  t.equal(quantile([10, 1], 0.5), 5.5);
  t.equal(quantile([3, 1, 2], 0.5), 2);
  t.same(spread([5, 1, 2, 4, 3]), { lower: 2, median: 3, upper: 4 });
  t.same(spread([1, 2]), { lower: 1.25, median: 1.5, upper: 1.75 });
  t.ok(Number.isNaN(quantile([], 0.5)));
});

t.test('a ratio is computed for each round, and both sides must have the same number of rounds', async t => {
  t.same(ratios([1, 4], [2, 2]), [0.5, 2]);
  t.throws(() => ratios([1], [1, 2]));
});

t.test('a difference is claimed only where the quartiles do not touch 1', async t => {
  t.ok(differs({ lower: 1.01, median: 1.1, upper: 1.2 }));
  t.ok(differs({ lower: 0.8, median: 0.9, upper: 0.99 }));
  t.notOk(differs({ lower: 1, median: 1.1, upper: 1.2 }));
  t.notOk(differs({ lower: 0.9, median: 1.2, upper: 1.4 }));
});

t.test('a seed always gives the same complete order, and another seed gives another one', async t => {
  const items = Array.from({ length: 20 }, (_, index) => index);
  const order = (seed: number) => shuffled(items, seeded(seed));
  t.same(order(7), order(7));
  t.notSame(order(7), order(8));
  t.same(
    [...order(7)].sort((a, b) => a - b),
    items,
  );
  const random = seeded(1);
  const mean = Array.from({ length: 10_000 }, random).reduce((sum, each) => sum + each, 0) / 10_000;
  t.ok(Math.abs(mean - 0.5) < 0.02, `mean ${mean}`);
});

t.test('each contender has one turn a round, the order changes, and the first round does not count', async t => {
  const turns: string[] = [];
  let factor = 100;
  const contender = (name: string, ratio: number) => ({
    name,
    async turn() {
      turns.push(name);
      // The machine becomes slower from turn to turn.
      factor *= 0.999;
      return { rate: ratio * factor };
    },
  });
  const contenders = [contender('base', 1), contender('twice', 2), contender('same', 1)];
  const found = await takeTurns(contenders, { title: 'test', measures: [{ name: 'rate', unit: '/s' }], rounds: 9 });
  t.equal(turns.length, 30);
  const rounds = Array.from({ length: 10 }, (_, round) => turns.slice(round * 3, round * 3 + 3));
  for (const round of rounds) t.same([...round].sort(), ['base', 'same', 'twice']);
  t.ok(new Set(rounds.map(round => round.join())).size > 2, 'orders differ');
  t.equal(found.values.base!.rate!.length, 9);
  t.match(describeRatio(found, 'twice', 'rate'), /^2\.00 \((1\.99|2\.00) to 2\.0/);
  t.match(describeRatio(found, 'same', 'rate'), /^no difference \(/);
  await t.rejects(
    takeTurns([{ name: 'x', turn: async () => ({}) }], { title: 'test', measures: [{ name: 'rate', unit: '' }] }),
    /"rate" is undefined/,
  );
});
