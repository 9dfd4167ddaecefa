import t from 'tap';
import { createBudget, type Share } from '../../src/outbound/budget.ts';
import { createPlaces } from '../../src/outbound/places.ts';

/** A dispatcher that starts as many of its `waiting` requests as the budget allows. */
function dispatcher(budget: ReturnType<typeof createBudget>, waiting: number) {
  const state = { waiting, inFlight: 0, begun: 0, pump, end, share: undefined as unknown as Share };
  state.share = budget.join(pump);
  function pump() {
    while (state.waiting > 0 && state.share.mayTake()) {
      state.share.take();
      state.waiting--;
      state.inFlight++;
      state.begun++;
    }
  }
  function end() {
    state.inFlight--;
    state.share.giveBack();
    pump();
  }
  return state;
}

t.test('one database may use all free places, and shares them in turns when others need some', async t => {
  const budget = createBudget(10, 1000);
  const long = dispatcher(budget, 1_000);
  long.pump();
  t.equal(long.inFlight, 10);
  const others = [dispatcher(budget, 100), dispatcher(budget, 3)];
  for (const other of others) other.pump();
  t.same(
    others.map(({ inFlight }) => inFlight),
    [0, 0],
  );
  // The dispatcher with the long queue was first; the others get places as its requests end.
  for (let ends = 0; ends < 3; ends++) long.end();
  t.same(
    others.map(({ inFlight }) => inFlight),
    [1, 1],
  );
  const all = [long, ...others];
  for (let step = 0; step < 300; step++) all.filter(({ inFlight }) => inFlight > 0)[step % 3]?.end();
  t.equal(others[1]!.begun, 3, 'the short queue is through');
  t.ok(others[0]!.begun > 80, `the second long queue had its turns: ${others[0]!.begun}`);
  t.ok(all.reduce((sum, { inFlight }) => sum + inFlight, 0) <= 10, 'never more than there are places');
});

t.test('a database that was removed is not called, and its places are returned', async t => {
  const budget = createBudget(1, 1000);
  const [first, second, third] = [dispatcher(budget, 1), dispatcher(budget, 1), dispatcher(budget, 1)];
  for (const each of [first, second, third]) each.pump();
  second.share.leave();
  first.end();
  t.equal(second.begun, 0);
  t.equal(third.begun, 1);
});

t.test('bytes and requests are counted over all databases', async t => {
  const budget = createBudget(2, 1000);
  const [one, other] = [budget.join(() => {}), budget.join(() => {})];
  one.hold(600);
  one.hang(100);
  t.equal(other.spareBytes, 400);
  t.equal(other.spareHangingBytes, 400);
  one.count(19);
  t.ok(other.mayAdd);
  other.count(1);
  t.notOk(one.mayAdd);
});

t.test('the bytes to receivers that may hang are counted right however many endpoints have answered', async t => {
  const share = createBudget(50, 1_000_000).join(() => {});
  const places = createPlaces(share, 50, () => {});
  const quick = (endpoint: string) => places.begin(endpoint, 20_000)(5);
  quick('first');
  const end = places.begin('first', 20_000);
  t.equal(share.spareHangingBytes, 500_000, 'a quick endpoint does not count');
  for (let i = 0; i < 20_100; i++) quick(`endpoint ${i}`);
  t.ok(places.isQuick('first'), 'an endpoint with a request in flight is not forgotten');
  t.notOk(places.isQuick('endpoint 0'), 'one without is');
  end(5);
  t.equal(share.spareHangingBytes, 500_000);
  t.equal(share.spareBytes, 1_000_000);
  const hang = places.begin('other', 20_000);
  t.equal(share.spareHangingBytes, 480_000);
  hang(null);
  t.equal(share.spareHangingBytes, 500_000);
  places.close();
});
