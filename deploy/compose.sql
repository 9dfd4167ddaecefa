-- What a DBA does once: logins, a table, an endpoint. Can be run again.
do $$
begin
  if to_regrole('runner') is null then
    create role runner login password 'runner' in role collecta_dispatcher, collecta_inbound, collecta_reader;
  end if;
  if to_regrole('oncall') is null then
    create role oncall login password 'oncall' in role collecta_operator;
  end if;
end
$$;
create table if not exists public.orders (
  id text primary key default collecta.new_id('rec'),
  customer text not null,
  status text not null default 'open'
);
select collecta.attach_module('public.orders', 'orders', status_column => 'status');
select * from collecta.create_endpoint('http://receiver:9000/orders',
  '{record_created,record_updated,record_deleted,status_change}', name => 'receiver');
insert into public.orders (customer) values ('Ada');
