import { ConfigError, readConfig } from '../config.ts';
import { type Command, complain, readInput, UsageError } from './command.ts';

const notSealed = 'The secret is stored in plain text, because COLLECTA_SECRET_KEY is not set.';

export const createEndpointCommand: Command = {
  summary: 'create an endpoint whose secret is sealed before it is stored',
  usage: 'URL --events EVENT,… [OPTIONS]',
  about: `Does what collecta.create_endpoint does, but seals the secret and the headers with COLLECTA_SECRET_KEY before
they are sent to the database. Prints the endpoint's id and its secret, which is not shown again. If the receiver chose
the secret, pass it in COLLECTA_SECRET or COLLECTA_SECRET_FILE; otherwise one is generated. If an endpoint with this
--name exists, it is updated and keeps its secret.`,
  options: {
    events: {
      type: 'string',
      value: 'LIST',
      about: 'comma-separated: record_created, record_updated, status_change …',
    },
    modules: { type: 'string', value: 'LIST', about: 'comma-separated slugs (default: all modules, future ones too)' },
    name: { type: 'string', value: 'NAME', about: 'makes the command repeatable' },
    filter: { type: 'string', value: 'PATH', about: 'SQL/JSON path predicate over the payload' },
    scope: { type: 'string', value: 'VALUE', about: 'only records whose scope column has this value' },
    ordered: { type: 'boolean', about: 'deliver the events of each record one at a time, in order' },
    'payload-role': { type: 'string', value: 'ROLE', about: 'send only the columns that this role may select' },
    'retry-max': { type: 'string', value: 'N', about: 'retries after the first attempt (default: 5)' },
    'headers-file': { type: 'string', value: 'FILE', about: 'a JSON object of request headers; - is standard input' },
  },
  run: async ({ env, positionals, options, say }) => {
    const [url, ...rest] = positionals;
    if (!url || rest.length > 0) throw new UsageError('one URL is expected');
    const { events, modules, name, filter, scope, ...others } = options as Record<string, string | undefined>;
    if (!events) throw new UsageError('--events is missing');
    const retryMax = others['retry-max'] ?? '5';
    if (!/^\d{1,3}$/.test(retryMax)) throw new UsageError('--retry-max must be a whole number');
    const headers = others['headers-file'] ? parseHeaders(await readInput(others['headers-file'])) : {};
    const config = readConfig(env);
    const { createEndpoint } = await import('../secrets/seal.ts');
    const created = await createEndpoint(config, {
      url,
      events: events.split(','),
      modules: modules?.split(',') ?? null,
      name: name ?? null,
      filter: filter ?? null,
      scope: scope ?? null,
      ordered: Boolean(options.ordered),
      payloadRole: others['payload-role'] ?? null,
      retryMax: Number(retryMax),
      headers,
      secret: config.secret,
    });
    say(`endpoint_id ${created.endpointId}`);
    if (created.secret !== null) say(`secret ${created.secret}`);
    if (!config.secretKey) complain(notSealed);
    return 0;
  },
};

export const rotateSecretCommand: Command = {
  summary: 'give an endpoint a new secret, sealed before it is stored',
  usage: 'ENDPOINT_ID [--overlap INTERVAL]',
  about: `Does what collecta.rotate_secret does, or collecta.rotate_inbound_secret for the id of an inbound endpoint,
but seals the secret with COLLECTA_SECRET_KEY before it is sent to the database. A secret that the other side made
(Stripe's, say) is taken from COLLECTA_SECRET or COLLECTA_SECRET_FILE. Prints only the new secret.`,
  options: {
    overlap: {
      type: 'string',
      value: 'INTERVAL',
      about: 'how long the old secret stays valid (default: 24 hours); use 0 after a leak',
    },
  },
  run: async ({ env, positionals, options, say }) => {
    const [id, ...rest] = positionals;
    if (!id || rest.length > 0) throw new UsageError('one endpoint id is expected');
    const config = readConfig(env);
    const { rotateSecret } = await import('../secrets/seal.ts');
    say(await rotateSecret(config, id, String(options.overlap ?? '24 hours'), config.secret));
    if (!config.secretKey) complain(notSealed);
    return 0;
  },
};

export const sealCommand: Command = {
  summary: 'seal the secrets that the database stores',
  usage: '',
  about: `Seals with the first key of COLLECTA_SECRET_KEY all secrets and headers, of outbound and inbound endpoints,
that are plain or sealed with another of its keys. Give the key to the runners first. To change the key, put the new one
in front of the old one, restart the runners, run seal, then remove the old one. The plain values stay in the server's
WAL and in backups until these are deleted.`,
  run: async ({ env, say }) => {
    const config = readConfig(env);
    const { secretKey } = config;
    if (!secretKey)
      throw new ConfigError(
        'COLLECTA_SECRET_KEY (or COLLECTA_SECRET_KEY_FILE) is not set. Make a key, and keep it, because without it ' +
          'every secret would have to be rotated: openssl rand -base64 32 > collecta.key && ' +
          'COLLECTA_SECRET_KEY_FILE=collecta.key collecta-webhooks seal',
      );
    const { seal } = await import('../secrets/seal.ts');
    return await seal({ ...config, secretKey }, say, complain);
  },
};

function parseHeaders(bytes: Uint8Array): Record<string, string> {
  try {
    const headers = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (headers !== null && typeof headers === 'object') return headers;
  } catch {} // the message of this error would quote the headers, which may be secret
  throw new UsageError('the file of --headers-file is not a JSON object');
}
