import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../database/connect.ts';

/** A receiver or a record may have sent what steers a terminal or breaks the line: it is written as an escape. */
const printable = (text: string) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, each => `\\u{${each.codePointAt(0)!.toString(16)}}`);

/**
 * Follows collecta.webhook_deliveries: a line for each attempt as it is recorded, `last` earlier ones first, until `signal`
 * aborts. Read by id, which is in the order of recording; an id that committed late by up to 5 s is not missed.
 */
export async function tail(
  databaseUrl: string,
  options: { endpoint: string | undefined; failed: boolean; last: number },
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<number> {
  const sql = connect(databaseUrl, { max: 1, purpose: 'tail' });
  const read = (since: string | null, limit: number) => sql`
    select id, to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at, outcome, response_status, endpoint_id, module, event,
      record_id, attempt, round(duration_ms) as ms, error
    from collecta.webhook_deliveries
    where (${options.endpoint ?? null}::text is null or endpoint_id = ${options.endpoint ?? null})
      and (not ${options.failed} or outcome <> 'delivered')
      and (${since}::text is null or (id > ${since} and routed_at > now() - interval '31 days' and finished_at > now() - interval '1 hour'))
    order by id desc limit ${limit}`;
  const seen = new Set<string>();
  try {
    // An id begins with its time in milliseconds. Not by new_id: collecta_reader may not call it.
    const idAgo = async (seconds: number) => {
      const [row] = await sql`select 'dlv_' || lpad(to_hex((
        extract(epoch from clock_timestamp() - make_interval(secs => ${seconds})) * 1000)::bigint), 12, '0') as id`;
      return row!.id as string;
    };
    let since = await idAgo(0);
    let rows = options.last > 0 ? await read(null, options.last) : [];
    for (;;) {
      for (const row of [...rows].reverse()) {
        if (seen.has(row.id)) continue;
        seen.add(row.id);
        const status = row.response_status ?? '-';
        say(
          printable(
            `${row.at} ${row.outcome} ${status} ${row.module ?? '-'} ${row.event ?? '-'} ${row.record_id ?? '-'} attempt ${row.attempt} ${row.ms} ms ${row.endpoint_id} ${row.id}${row.error ? `  ${row.error}` : ''}`,
          ),
        );
      }
      await pause(1_000, undefined, { signal });
      rows = await read(since, 10_000);
      // An id begins with its time: what is older than 5 s cannot appear any more.
      since = await idAgo(5);
      for (const id of seen) if (id < since) seen.delete(id);
    }
  } catch (error) {
    if (signal.aborted) return 0;
    throw error;
  } finally {
    await sql.end({ timeout: 1 });
  }
}
