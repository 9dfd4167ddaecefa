// npx tsx scripts/inbound-senders.ts DATABASE_URL   writes the table of senders in docs/inbound.md, from the rows of
// collecta.inbound_senders that ship with the install. test/inbound/senders.test.ts compares the two.
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import postgres from 'postgres';

type Scheme = { in: string; prefix?: string; encoding?: string; hash?: string; signed?: string; timestamp?: string };
type Row = Record<string, unknown>;

const code = (text: string) => `\`${text}\``;
const sourceName = (source: string) => code(source.replace(/^(header|query):/, ''));

/** The table as Markdown. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map(row => {
    const signatures = (row.signatures as Scheme[]).map(
      ({ in: source, prefix = '', encoding = 'hex', hash = 'sha256', signed = '', timestamp }) => {
        if (encoding === 'plain') return `${sourceName(source)}: the secret itself`;
        const value = `${prefix ? `${code(prefix)} and ` : ''}${hash}, ${encoding}, of ${code(signed)}`;
        return `${sourceName(source)}: ${value}${timestamp ? ', with age' : ''}`;
      },
    );
    const handshakes = (row.handshakes as { method?: string; answer: string }[]).map(
      ({ method = 'POST', answer }) => `${method}, answered with ${code(answer)}`,
    );
    const cells = [
      code(row.sender as string),
      `[${row.about}](${row.documentation})`,
      signatures.join('; ') || 'none',
      (row.ids as string[]).map(sourceName).join(', '),
      row.event ? sourceName(row.event as string) : '',
      (row.ignored_events as string[]).map(code).join(', '),
      handshakes.join('; '),
      row.each ? code(row.each as string) : '',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return `| \`sender\` | Who | Signature | Id | Event | Ignored | Handshake | \`each\` |
|---|---|---|---|---|---|---|---|
${lines.join('\n')}
`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const sql = postgres(process.argv[2] ?? '');
  const rows = await sql`select * from collecta.inbound_senders where shipped order by sender`;
  const page = readFileSync('docs/inbound.md', 'utf8');
  writeFileSync(
    'docs/inbound.md',
    page.replace(/\| `sender` \|[\s\S]*?\n\n/, () => `${table(rows)}\n`),
  );
  await sql.end();
}
