// A job queue that people use, tuned as its documentation recommends. Each job does one signed POST, 50 at once.
import { createHmac } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Logger, run } from 'graphile-worker';
import PgBoss from 'pg-boss';
import { Agent, request } from 'undici';

const [, , peer = '', url = '', target = ''] = process.argv;
const concurrency = 50;
const agent = new Agent({ connections: concurrency });

async function post(payload: unknown): Promise<void> {
  const body = JSON.stringify(payload);
  const signature = createHmac('sha256', 'secret').update(body).digest('hex');
  const answer = await request(target, {
    method: 'POST',
    body,
    dispatcher: agent,
    headers: { 'content-type': 'application/json', 'x-webhook-signature': `sha256=${signature}` },
  });
  await answer.body.dump();
  if (answer.statusCode >= 300) throw new Error(`status ${answer.statusCode}`);
}

if (peer === 'pg-boss') {
  // pg-boss's own worker sleeps between two fetches. Three loops that call its fetch and complete are many times as
  // fast. It has no notification of new jobs, so a loop that found none asks again after 5 ms.
  const boss = new PgBoss({ connectionString: url, max: 10 });
  boss.on('error', console.error);
  await boss.start();
  const loop = async () => {
    for (;;) {
      const jobs = await boss.fetch<object>('post', { batchSize: 200 });
      if (jobs.length === 0) await pause(5);
      else {
        await Promise.all(jobs.map(({ data }) => post(data)));
        await boss.complete(
          'post',
          jobs.map(({ id }) => id),
        );
      }
    }
  };
  for (let i = 0; i < 3; i++) void loop();
} else {
  const tuned = peer === 'graphile-worker tuned';
  await run({
    connectionString: url,
    concurrency,
    noHandleSignals: true,
    // Its log would have a line for each job, and writing it would be measured too.
    logger: new Logger(() => () => {}),
    taskList: { post },
    ...(tuned && {
      preset: {
        worker: {
          connectionString: url,
          maxPoolSize: 10,
          concurrentJobs: concurrency,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    }),
  });
}
