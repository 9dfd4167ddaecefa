import { startHostileReceiver } from '../hostile-receiver.ts';
import { good } from './dns.ts';

/** The hostile receiver runs in its own process, so that its floods cost the sender only the bytes that arrive. */
console.log((await startHostileReceiver(good)).origin);
