#!/usr/bin/env bash
# COORDINATOR_URL=postgres://… test/citus.sh: the journey on a cluster of Citus that exists. Needs psql, Node and a
# built dist/. It connects to each node by the name and port that pg_dist_node has for it, with the user, password and
# database of the URL; WORKER_URLS (with spaces between them) says otherwise. It makes and drops tables and a schema
# whose names begin with collecta_journey, and leaves an install on each node unless it ends with success. Each line
# says ok, skipped or NOT OK; the exit status is 1 if anything is not ok.
set -eu
cd "$(dirname "$0")/.."
: "${COORDINATOR_URL:?is the URL of the coordinator}"
ask() { psql -XqAt -v ON_ERROR_STOP=1 "$1" -c "$2"; }
failed=0
sqlstate_of() { # url, statement: what it is refused with
  psql -XqAt -v VERBOSITY=sqlstate "$1" -c "$2" 2>&1 >/dev/null | grep '^ERROR' | head -1 || true
}
check() { # what, expected, found
  if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "NOT OK: $1: expected '$2', found '$3'"; failed=1; fi
}
folder=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  drop_tables
  rm -rf "$folder"
}
drop_tables() {
  for table in journey journey_reference journey_local; do
    ask "$COORDINATOR_URL" "drop table if exists public.collecta_$table" >/dev/null 2>&1 || true
  done
  ask "$COORDINATOR_URL" 'drop schema if exists collecta_journey_tenant cascade' >/dev/null 2>&1 || true
}
trap finish EXIT

url_of() { # host:port, in the coordinator's URL
  node -e 'const url = new URL(process.argv[1]); url.host = process.argv[2]; console.log(url.href)' \
    "$COORDINATOR_URL" "$1"
}
workers=()
if [ -n "${WORKER_URLS:-}" ]; then
  read -ra workers <<<"$WORKER_URLS"
else
  while read -r node; do workers+=("$(url_of "$node")"); done < <(ask "$COORDINATOR_URL" \
    "select nodename || ':' || nodeport from pg_dist_node
     where isactive and shouldhaveshards and noderole = 'primary' order by 1")
fi
echo "nodes with shards: ${#workers[@]}"

# A receiver that writes each body on a line.
node -e '
  require("node:http").createServer((request, response) => {
    let body = "";
    request.on("data", data => (body += data)).on("end", () => {
      require("node:fs").appendFileSync(process.argv[1], body + "\n");
      response.end("ok");
    });
  }).listen(0, "127.0.0.1", function () {
    require("node:fs").writeFileSync(process.argv[2], String(this.address().port));
  });
' "$folder/received" "$folder/port" &
pids+=($!)
until [ -s "$folder/port" ]; do sleep 0.1; done
touch "$folder/received"
target="http://127.0.0.1:$(cat "$folder/port")/"

ask "$COORDINATOR_URL" 'drop table if exists public.collecta_journey;
  create table public.collecta_journey (id bigint primary key, status text)'
ask "$COORDINATOR_URL" "select create_distributed_table('public.collecta_journey', 'id', shard_count => 8)" >/dev/null

DATABASE_URL=$COORDINATOR_URL node dist/cli.js migrate
for worker in "${workers[@]}"; do
  [ "$(ask "$worker" 'select inet_server_port() || host(inet_server_addr())')" = \
    "$(ask "$COORDINATOR_URL" 'select inet_server_port() || host(inet_server_addr())')" ] ||
    check 'the DDL of an install on the coordinator stays there' '' \
      "$(ask "$worker" "select to_regnamespace('collecta')")"
done
check 'attach_module of a distributed table is refused on the coordinator' 'ERROR:  CW002' \
  "$(sqlstate_of "$COORDINATOR_URL" "select collecta.attach_module('public.collecta_journey', 'journey')")"

# A table that is attached and distributed afterwards: Citus refuses it, or health says that nothing is captured any
# more.
ask "$COORDINATOR_URL" "create table public.collecta_journey_local (id bigint primary key);
  select collecta.attach_module('public.collecta_journey_local', 'journey-local')" >/dev/null
for unsafe in off on; do
  distributed=$(sqlstate_of "$COORDINATOR_URL" "set citus.enable_unsafe_triggers = $unsafe;
    select create_distributed_table('public.collecta_journey_local', 'id')")
  if [ "${distributed#ERROR}" != "$distributed" ]; then
    echo "ok: with citus.enable_unsafe_triggers = $unsafe an attached table cannot be distributed ($distributed)"
  else
    check 'health of a table that was distributed after it was attached' 1 "$(ask "$COORDINATOR_URL" \
      "select count(*) from collecta.health where problem = 'no shard is on this node' and subject = 'journey-local'")"
    break
  fi
done
ask "$COORDINATOR_URL" "select collecta.detach_module('journey-local')" >/dev/null 2>&1 || true
ask "$COORDINATOR_URL" 'drop table public.collecta_journey_local'

shards=0
databases=''
number=0
for worker in "${workers[@]}"; do
  number=$((number + 1))
  DATABASE_URL=$worker node dist/cli.js migrate
  here=$(ask "$worker" "select collecta.attach_shards('public.collecta_journey', 'journey', status_column => 'status')")
  shards=$((shards + here))
  ask "$worker" "select from collecta.create_endpoint('$target',
    '{record_created,record_updated,record_deleted,status_change}', name => 'journey')" >/dev/null
  check "health of node $number" '' "$(ask "$worker" "select problem from collecta.health where severity = 'error'")"
  databases="$databases${databases:+,}\"node-$number\": $(node -p 'JSON.stringify(process.argv[1])' "$worker")"
done
check 'all shards are attached' 8 "$shards"
ask "$COORDINATOR_URL" 'grant trigger on public.collecta_journey to collecta_owner;
  grant select on public.collecta_journey to collecta_capture'

echo "{$databases}" >"$folder/databases.json"
chmod 600 "$folder/databases.json"
DATABASE_URL='' COLLECTA_DATABASES=$folder/databases.json COLLECTA_ALLOW_HTTP=true \
  COLLECTA_ALLOW_DESTINATIONS=127.0.0.1 COLLECTA_LOG_LEVEL=warn node dist/cli.js dispatch &
pids+=($!)

received() { # event, how many within 30 s
  for _ in $(seq 300); do
    [ "$(grep -c "\"event\": *\"$1\"" "$folder/received" || true)" -ge "$2" ] && break
    sleep 0.1
  done
  check "$1" "$2" "$(grep -c "\"event\": *\"$1\"" "$folder/received" || true)"
}
ask "$COORDINATOR_URL" "insert into public.collecta_journey select g, 'open' from generate_series(1, 100) g"
received record_created 100
ask "$COORDINATOR_URL" "update public.collecta_journey set status = 'done' where id <= 50"
received status_change 50
ask "$COORDINATOR_URL" 'delete from public.collecta_journey where id <= 10'
received record_deleted 10

if [ "${#workers[@]}" -ge 2 ]; then
  # One shard moves from the first node that has one to another; what is written to it then is captured there.
  read -r shard from_host from_port to_host to_port < <(ask "$COORDINATOR_URL" "
    select s.shardid, n.nodename, n.nodeport, o.nodename, o.nodeport
    from pg_dist_shard s join pg_dist_placement p using (shardid) join pg_dist_node n on n.groupid = p.groupid
    join pg_dist_node o on o.groupid <> n.groupid and o.shouldhaveshards and o.noderole = 'primary'
    where s.logicalrelid = 'public.collecta_journey'::regclass and n.noderole = 'primary'
    order by 1, 4 limit 1" | tr '|' ' ')
  ask "$COORDINATOR_URL" "select citus_move_shard_placement($shard, '$from_host', $from_port, '$to_host', $to_port,
    'block_writes')" >/dev/null
  missing=0
  for worker in "${workers[@]}"; do
    found=$(ask "$worker" "select count(*) from collecta.health where problem = 'changes are not captured'")
    missing=$((missing + found))
  done
  check 'health knows of the moved shard' 1 "$missing"
  # Until Citus has dropped it, the old shard is there with its triggers, and health says that it is nobody's.
  ask "$COORDINATOR_URL" 'call citus_cleanup_orphaned_resources()' >/dev/null 2>&1 ||
    ask "$COORDINATOR_URL" 'call citus_cleanup_orphaned_shards()' >/dev/null 2>&1 || true
  for worker in "${workers[@]}"; do ask "$worker" 'select done from collecta.maintain()' >/dev/null; done
  for worker in "${workers[@]}"; do
    check 'health after maintain' '' "$(ask "$worker" "select problem from collecta.health where severity = 'error'")"
  done
  ask "$COORDINATOR_URL" "insert into public.collecta_journey select g, 'open' from generate_series(101, 200) g"
  received record_created 200
fi

deleted=$(grep -c '"event": *"record_deleted"' "$folder/received" || true)
rest=$(ask "$COORDINATOR_URL" 'select count(*) from public.collecta_journey')
ask "$COORDINATOR_URL" 'truncate public.collecta_journey'
received record_deleted $((deleted + rest))

# A reference table has a copy on each node. It is attached on one of them, and each change is sent once.
ask "$COORDINATOR_URL" "create table public.collecta_journey_reference (id bigint primary key, status text);
  select create_reference_table('public.collecta_journey_reference')" >/dev/null
first=${workers[0]}
check 'attach_module of a reference table is refused on a node that has a copy' 'ERROR:  CW002' \
  "$(sqlstate_of "$first" "select collecta.attach_module('public.collecta_journey_reference', 'journey-reference')")"
check 'the copy of a reference table is attached' 1 \
  "$(ask "$first" "select collecta.attach_shards('public.collecta_journey_reference', 'journey-reference')")"
created=$(grep -c '"event": *"record_created"' "$folder/received" || true)
ask "$COORDINATOR_URL" "insert into public.collecta_journey_reference select g, 'open' from generate_series(1, 10) g"
received record_created $((created + 10))
sleep 3
received record_created $((created + 10))

# A table of a distributed schema (Citus 12) has one shard, on one node.
if [ -n "$(ask "$COORDINATOR_URL" "select current_setting('citus.enable_schema_based_sharding', true)")" ]; then
  ask "$COORDINATOR_URL" "set citus.enable_schema_based_sharding = on; create schema collecta_journey_tenant;
    create table collecta_journey_tenant.orders (id bigint primary key, status text)" >/dev/null
  check 'attach_module of a schema-sharded table is refused on the coordinator' 'ERROR:  CW002' \
    "$(sqlstate_of "$COORDINATOR_URL" \
      "select collecta.attach_module('collecta_journey_tenant.orders', 'journey-tenant')")"
  placed=0
  for worker in "${workers[@]}"; do
    attached=$(ask "$worker" \
      "select collecta.attach_shards('collecta_journey_tenant.orders', 'journey-tenant')" 2>/dev/null || echo 0)
    placed=$((placed + attached))
  done
  check 'the shard of a schema-sharded table is attached on one node' 1 "$placed"
  created=$(grep -c '"event": *"record_created"' "$folder/received" || true)
  ask "$COORDINATOR_URL" "insert into collecta_journey_tenant.orders select g, 'open' from generate_series(1, 10) g"
  received record_created $((created + 10))
else
  echo 'skipped: this Citus has no schema-based sharding'
fi
for worker in "${workers[@]}"; do
  check 'health in the end' '' \
    "$(ask "$worker" "select problem || ' ' || subject from collecta.health where severity = 'error'")"
done

if [ "$failed" -eq 0 ]; then
  kill "${pids[1]}" && wait "${pids[1]}" || true
  drop_tables
  for url in "${workers[@]}" "$COORDINATOR_URL"; do DATABASE_URL=$url node dist/cli.js uninstall --yes; done
  echo 'the journey is complete'
fi
exit $failed
