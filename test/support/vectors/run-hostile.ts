import { startHostileReceiver } from '../hostile-receiver.ts';
import { good } from './dns.ts';

/** The hostile receiver in a process of its own, so that its floods cost the sender nothing but what they send. */
console.log((await startHostileReceiver(good)).origin);
