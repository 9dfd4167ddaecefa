--! Previous: -
--! Hash: sha1:8a1f20d2bc652a4f41066ed7497df443778e16a7
--! Message: Install

--! Included schema/collecta.sql
create schema if not exists collecta;

comment on schema collecta is
  'Webhooks for the tables of this database: changes captured, routed, delivered and kept for audit. Start with \df+ collecta.*';
--! EndIncluded schema/collecta.sql
