import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../database/connect.ts';

/** Escapes characters that would control a terminal or break the line, since receivers and records may contain them. */
const printable = (text: string) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, each => `\\u{${each.codePointAt(0)!.toString(16)}}`);

/**
 * Prints a line for each attempt in collecta.webhook_deliveries as it is recorded, after the `last` earlier ones, until
 * `signal` aborts. It reads by id, which is in the order of recording. An attempt that is committed up to 5 s late is
 * not missed. Resolves to the exit status 0.
 */
export async function tail(
  databaseUrl: string,
  options: { endpoint: string | undefined; failed: boolean; last: number },
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<number> {
  const sql = connect(databaseUrl, { max: 1, purpose: 'tail' });
  const read = (since: string | null, limit: number) => sql`
    select id, to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at, outcome, response_status,
      endpoint_id, module, event, record_id, attempt, round(duration_ms) as ms, error
    from collecta.webhook_deliveries
    where (${options.endpoint ?? null}::text is null or endpoint_id = ${options.endpoint ?? null})
      and (not ${options.failed} or outcome <> 'delivered')
      and (${since}::text is null or (id > ${since}
        and routed_at > now() - interval '31 days' and finished_at > now() - interval '1 hour'))
    order by id desc limit ${limit}`;
  const printed = new Set<string>(); // ids
  try {
    // An id begins with its time in milliseconds. new_id would return one, but collecta_reader may not call it.
    const idAgo = async (seconds: number) => {
      const [row] = await sql`select 'dlv_' || lpad(to_hex((
        extract(epoch from clock_timestamp() - make_interval(secs => ${seconds})) * 1000)::bigint), 12, '0') as id`;
      return row!.id as string;
    };
    let since = await idAgo(0);
    let rows = options.last > 0 ? await read(null, options.last) : [];
    for (;;) {
      for (const row of [...rows].reverse()) {
        if (printed.has(row.id)) continue;
        printed.add(row.id);
        const { at, outcome, response_status: status, module, event, record_id: recordId, attempt, ms, error } = row;
        const [result, change] = [
          [at, outcome, status ?? '-'],
          [module ?? '-', event ?? '-', recordId ?? '-'],
        ];
        const line = [...result, ...change, `attempt ${attempt} ${ms} ms`, row.endpoint_id, row.id].join(' ');
        say(printable(error ? `${line}  ${error}` : line));
      }
      await pause(1_000, undefined, { signal });
      rows = await read(since, 10_000);
      // Attempts whose id is older than 5 s cannot be committed any more.
      since = await idAgo(5);
      for (const id of printed) if (id < since) printed.delete(id);
    }
  } catch (error) {
    if (signal.aborted) return 0;
    throw error;
  } finally {
    await sql.end({ timeout: 1 });
  }
}
