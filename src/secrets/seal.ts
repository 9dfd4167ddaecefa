import { randomBytes } from 'node:crypto';
import type { TransactionSql } from 'postgres';
import { connect } from '../database/connect.ts';
import { createKeyring, headersOf, type Keyring } from './keyring.ts';
import { parseSecret } from './sign.ts';

type Connection = { databaseUrl: string; secretKey: string | undefined };
type Say = (line: string) => void;

const tables = [
  { table: 'collecta.endpoint_secrets', id: 'endpoint_id' },
  { table: 'collecta.inbound_secrets', id: 'inbound_endpoint_id' },
] as const;

const generateSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

/**
 * Runs `work` in one transaction. Secrets are sent only as bound values, so that no statement's text contains one. They
 * are sealed before if there is a key.
 */
async function inTransaction<T>(
  { databaseUrl, secretKey }: Connection,
  work: (tx: TransactionSql, keyring: Keyring) => Promise<T>,
) {
  const sql = connect(databaseUrl, { max: 1 });
  try {
    return (await sql.begin(tx => work(tx, createKeyring(secretKey)))) as T;
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/**
 * Seals with the first key every secret and header that is plain or sealed with another key, of outbound and inbound
 * endpoints. Then rewrites the two tables, so that no plain copy stays in their files. Returns the exit status: 1 if a
 * value could not be opened.
 */
export async function seal(connection: Connection & { secretKey: string }, say: Say, complain: Say): Promise<number> {
  let failed = 0;
  const keyId = createKeyring(connection.secretKey).sealsBy;
  await inTransaction(connection, async (tx, keyring) => {
    for (const { table, id } of tables) {
      let sealed = 0;
      const hasHeaders = table === 'collecta.endpoint_secrets';
      const rows = await tx`
        select ${tx(id)} as id, secret, previous_secret, ${hasHeaders ? tx`headers #>> '{}'` : tx`'{}'`} as headers
        from ${tx(table)} order by 1 for update`;
      const reseal = (stored: string | null, boundTo: string) =>
        stored === null || stored.startsWith(`sealed:v1:${keyId}:`)
          ? stored
          : keyring.seal(keyring.open(stored, boundTo), boundTo);
      for (const row of rows) {
        try {
          const secret = reseal(row.secret, row.id);
          const previous = reseal(row.previous_secret, row.id);
          const headers = row.headers === '{}' ? row.headers : reseal(row.headers, headersOf(row.id));
          if (secret === row.secret && previous === row.previous_secret && headers === row.headers) continue;
          const setHeaders = hasHeaders
            ? tx`, headers = case when ${headers} = '{}' then '{}' else to_jsonb(${headers}::text) end`
            : tx``;
          await tx`
            update ${tx(table)} set secret = ${secret}, previous_secret = ${previous} ${setHeaders}
            where ${tx(id)} = ${row.id}`;
          sealed++;
        } catch (error) {
          if ((error as { code?: string }).code) throw error;
          failed++;
          complain(`${row.id}: ${(error as Error).message}`);
        }
      }
      say(`${table}: ${sealed} of ${rows.length} sealed by key ${keyId}`);
    }
    await tx`select pg_notify('collecta_inbound', '')`;
  });
  const sql = connect(connection.databaseUrl, { max: 1 });
  try {
    await sql`select set_config('lock_timeout', '3s', false)`;
    for (const { table } of tables) await sql.unsafe(`vacuum (full) ${table}`);
  } catch (error) {
    complain(`plain copies stay in the tables' files until they are vacuumed: ${(error as Error).message}`);
  } finally {
    await sql.end({ timeout: 5 });
  }
  return failed > 0 ? 1 : 0;
}

export type EndpointOptions = {
  url: string;
  events: string[];
  modules: string[] | null;
  name: string | null;
  filter: string | null;
  scope: string | null;
  ordered: boolean;
  payloadRole: string | null;
  retryMax: number;
  headers: Record<string, string>;
  /** The secret that the receiver chose. If it is undefined, one is generated. */
  secret: string | undefined;
};

/**
 * Calls collecta.create_endpoint. If there is a key, the secret and the headers are sealed before they are sent to the
 * database. The returned `secret` is null if an endpoint of this name exists already and keeps its secret. Throws if
 * the secret is malformed.
 */
export async function createEndpoint(
  connection: Connection,
  { headers, secret: given, ...options }: EndpointOptions,
): Promise<{ endpointId: string; secret: string | null }> {
  if (given !== undefined) parseSecret(given);
  if (given?.match(/^.{513}|[\p{Cc}]|^sealed:/su)) throw new Error('the secret is not 1 to 512 printable characters');
  return inTransaction(connection, async (tx, keyring) => {
    const { url, events, modules, name, filter, scope, ordered, payloadRole, retryMax } = options;
    const [existing] =
      await tx`select endpoint_id from collecta.endpoints where name = ${name} and state <> 'deleted' for update`;
    const sealing = keyring.sealsBy !== undefined;
    const secret = given ?? (existing || !sealing ? null : generateSecret());
    const headersJson = JSON.stringify(headers);
    const sentHeaders = sealing
      ? tx`collecta.mask_headers(${headersJson}::text::jsonb)`
      : tx`${headersJson}::text::jsonb`;
    // create_endpoint gets only masked headers below, so the real ones are checked here.
    if (sealing)
      await tx`
        select collecta.check_endpoint(${url}, ${events}, ${modules}, null, ${filter}, ${payloadRole},
          ${headersJson}::text::jsonb)`;
    // A secret is sealed for the endpoint's id, which exists only after this call. So this one is sealed for no
    // endpoint, and is replaced below in the same transaction.
    const [created] = await tx`
      select endpoint_id, secret from collecta.create_endpoint(${url}, ${events}, modules => ${modules},
        name => ${name}, filter => ${filter}, scope => ${scope}, ordered => ${ordered}, payload_role => ${payloadRole},
        retry_max => ${retryMax}, secret => ${secret === null ? null : keyring.seal(secret, '')},
        headers => ${sentHeaders})`;
    const id: string = created!.endpoint_id;
    if (sealing && secret !== null)
      await tx`update collecta.endpoint_secrets set secret = ${keyring.seal(secret, id)} where endpoint_id = ${id}`;
    if (sealing && headersJson !== '{}')
      await tx`
        update collecta.endpoint_secrets set headers = to_jsonb(${keyring.seal(headersJson, headersOf(id))}::text)
        where endpoint_id = ${id}`;
    return { endpointId: id, secret: existing || sealing ? secret : created!.secret };
  });
}

/**
 * Calls collecta.rotate_secret, or collecta.rotate_inbound_secret for an inbound endpoint, and returns the new secret.
 * If there is a key, the secret is sealed before it is sent to the database. `overlap` is an interval of PostgreSQL.
 */
export async function rotateSecret(
  connection: Connection,
  endpointId: string,
  overlap: string,
  /** The secret that the other side chose. If it is undefined, one is generated. */
  given?: string,
): Promise<string> {
  return inTransaction(connection, async (tx, keyring) => {
    const rotate = tx(endpointId.startsWith('inb_') ? 'collecta.rotate_inbound_secret' : 'collecta.rotate_secret');
    if (keyring.sealsBy === undefined) {
      const [row] = await tx`select ${rotate}(${endpointId}, ${overlap}::text::interval, ${given ?? null}) as secret`;
      return row!.secret;
    }
    const secret = given ?? generateSecret();
    if (/^.{513}|[\p{Cc}]|^sealed:/su.test(secret)) throw new Error('the secret is not 1 to 512 printable characters');
    await tx`select ${rotate}(${endpointId}, ${overlap}::text::interval, ${keyring.seal(secret, endpointId)})`;
    return secret;
  });
}
