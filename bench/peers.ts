// The job queues that people use today, each tuned as its documentation says best, doing one signed POST a job.
import { createHmac } from 'node:crypto';
import { Logger, run } from 'graphile-worker';
import PgBoss from 'pg-boss';
import { Agent, request } from 'undici';

const [, , peer = '', url = '', target = '', concurrency = '50'] = process.argv;
const agent = new Agent({ connections: Number(concurrency) });

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

if (peer === 'graphile-worker' || peer === 'graphile-worker as installed') {
  const tuned = peer === 'graphile-worker';
  await run({
    connectionString: url,
    concurrency: Number(concurrency),
    noHandleSignals: true,
    // A line for each job would be measured too.
    logger: new Logger(() => () => {}),
    taskList: { post },
    ...(tuned && {
      preset: {
        worker: {
          connectionString: url,
          maxPoolSize: 10,
          concurrentJobs: Number(concurrency),
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    }),
  });
} else if (peer === 'pg-boss') {
  const boss = new PgBoss({ connectionString: url, max: 10 });
  await boss.start();
  for (let i = 0; i < 3; i++)
    await boss.work('post', { batchSize: 200, pollingIntervalSeconds: 0.5 }, async jobs => {
      await Promise.all(jobs.map(({ data }) => post(data)));
    });
}
