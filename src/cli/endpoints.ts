import { ConfigError, readConfig, variables } from '../config.ts';
import { type Command, complain, readInput, UsageError } from './command.ts';

export const createEndpointCommand: Command = {
  summary: 'make a destination whose secret the database never sees plain',
  usage: 'URL --events EVENT,… [OPTIONS]',
  about: `As collecta.create_endpoint, but with COLLECTA_SECRET_KEY the secret and the headers are sealed before they are sent to the
database. Prints the endpoint's id, and its secret, which is shown here only. A secret that the receiver gave comes from
COLLECTA_SECRET or COLLECTA_SECRET_FILE; else one is generated. The endpoint of a --name that exists is updated and keeps its own.`,
  options: {
    events: {
      type: 'string',
      value: 'LIST',
      about: 'record_created, record_updated, status_change …; commas between',
    },
    modules: { type: 'string', value: 'LIST', about: 'slugs, commas between (default: all, future ones included)' },
    name: { type: 'string', value: 'NAME', about: 'makes the command repeatable' },
    filter: { type: 'string', value: 'PATH', about: 'SQL/JSON path predicate over the payload' },
    scope: { type: 'string', value: 'VALUE', about: 'only records whose scope column equals it' },
    ordered: { type: 'boolean', about: 'per record one at a time, in order' },
    'payload-role': { type: 'string', value: 'ROLE', about: 'send only columns that this role may select' },
    'retry-max': { type: 'string', value: 'N', about: 'retries after the first attempt (default: 5)' },
    'headers-file': { type: 'string', value: 'FILE', about: 'a JSON object of request headers; - is standard input' },
  },
  run: async ({ env, positionals, options, say }) => {
    const [url, ...rest] = positionals;
    if (!url || rest.length > 0) throw new UsageError('one URL is expected');
    const { events, modules, name, filter, scope, ...given } = options as Record<string, string | undefined>;
    if (!events) throw new UsageError('--events is missing');
    const retryMax = given['retry-max'] ?? '5';
    if (!/^\d{1,3}$/.test(retryMax)) throw new UsageError('--retry-max is a whole number');
    const headers = given['headers-file'] ? parseHeaders(await readInput(given['headers-file'])) : {};
    const config = readConfig(env);
    const { createEndpoint } = await import('../secrets/seal.ts');
    const made = await createEndpoint(config, {
      url,
      events: events.split(','),
      modules: modules?.split(',') ?? null,
      name: name ?? null,
      filter: filter ?? null,
      scope: scope ?? null,
      ordered: Boolean(options.ordered),
      payloadRole: given['payload-role'] ?? null,
      retryMax: Number(retryMax),
      headers,
      secret: config.secret,
    });
    say(`endpoint_id ${made.endpointId}`);
    if (made.secret !== null) say(`secret ${made.secret}`);
    if (!config.secretKey) complain('The secret is stored plain: COLLECTA_SECRET_KEY is not set.');
    return 0;
  },
};

export const rotateSecretCommand: Command = {
  summary: 'give an endpoint a new secret that the database never sees plain',
  usage: 'ENDPOINT_ID [--overlap INTERVAL]',
  about: `As collecta.rotate_secret, or collecta.rotate_inbound_secret for the id of an inbound endpoint; sealed by
COLLECTA_SECRET_KEY. A secret that the other side made (Stripe's, say) comes from COLLECTA_SECRET or COLLECTA_SECRET_FILE;
else one is generated. Prints the new secret, and nothing else, on standard output.`,
  options: {
    overlap: { type: 'string', value: 'INTERVAL', about: 'how long both work (default: 24 hours); 0 after a leak' },
  },
  run: async ({ env, positionals, options, say }) => {
    const [id, ...rest] = positionals;
    if (!id || rest.length > 0) throw new UsageError('one endpoint id is expected');
    const config = readConfig(env);
    const { rotateSecret } = await import('../secrets/seal.ts');
    say(await rotateSecret(config, id, String(options.overlap ?? '24 hours'), config.secret));
    if (!config.secretKey) complain('The secret is stored plain: COLLECTA_SECRET_KEY is not set.');
    return 0;
  },
};

export const sealCommand: Command = {
  summary: 'seal the secrets in the database by a key that it never sees',
  usage: '',
  about: `Seals by the first key of COLLECTA_SECRET_KEY what is plain, or sealed by another of its keys: the secrets and headers of all
endpoints, both ways. Give the key to the runners first. To change it: put the new key in front of the old one, restart the
runners, seal, then take the old one away. What was plain once stays in the server's WAL and backups until they age out.`,
  run: async ({ env, say }) => {
    const config = readConfig(env);
    const { secretKey } = config;
    if (!secretKey)
      throw new ConfigError(
        `COLLECTA_SECRET_KEY (or COLLECTA_SECRET_KEY_FILE) is not set, for example COLLECTA_SECRET_KEY=${variables.COLLECTA_SECRET_KEY.example}`,
      );
    const { seal } = await import('../secrets/seal.ts');
    return await seal({ ...config, secretKey }, say, complain);
  },
};

function parseHeaders(bytes: Uint8Array): Record<string, string> {
  try {
    const headers = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (headers !== null && typeof headers === 'object') return headers;
  } catch {} // its message would quote them
  throw new UsageError('--headers-file holds no JSON object');
}
