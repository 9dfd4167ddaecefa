import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The functions that only functions call: those defined in a folder `internal` or `templates` of sql/fixtures. */
export function internalFunctions(): string[] {
  const folder = fileURLToPath(new URL('../../sql/fixtures', import.meta.url));
  const inFolders = (readdirSync(folder, { recursive: true }) as string[])
    .filter(file => /\/(internal|templates)\/.*\.sql$/.test(file))
    .flatMap(file =>
      [...readFileSync(`${folder}/${file}`, 'utf8').matchAll(/^create (?:or replace )?function collecta\.(\w+)/gm)].map(
        match => match[1]!,
      ),
    );
  // Those that still stand beside a public one.
  return [
    ...inFolders,
    ...`check_inbound_endpoint_id check_inbound_overlap end_leases forget_inbound_endpoint inbound_cast_problem inbound_fields
    notifies promote_next promote_waiting save_inbound_endpoint set_inbound_state`.split(/\s+/),
  ];
}
