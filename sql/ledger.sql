-- What has been installed. Run by `collecta-webhooks migrate` and by install.psql before the first migration, and never again.
do $$
begin
  if current_setting('server_version_num')::int < 140000 then
    raise exception 'collecta-webhooks needs PostgreSQL 14 or later, this is %', current_setting('server_version')
      using errcode = 'feature_not_supported', hint = 'Upgrade the server, then run the install again.';
  end if;
  -- `create schema if not exists` wants CREATE on the database even where the schema is there already.
  if to_regnamespace('collecta') is null then
    create schema collecta;
  end if;
end
$$;

create table collecta.migrations (
  filename text collate "C" not null,
  hash text collate "C" not null,
  previous_hash text collate "C",
  applied_at timestamptz not null default now(),
  constraint migrations_pkey primary key (filename)
);

comment on table collecta.migrations is
  'Which files of sql/committed are installed here: the ledger of `collecta-webhooks migrate` and of sql/install.psql.';
comment on column collecta.migrations.filename is 'Name of the file in sql/committed.';
comment on column collecta.migrations.hash is 'The file''s hash as its header says; it covers the previous one''s, so the files form a chain.';
comment on column collecta.migrations.previous_hash is 'Hash of the file before; null for the first.';
comment on column collecta.migrations.applied_at is 'When its transaction began.';
