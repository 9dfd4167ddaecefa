--!include schema/collecta.sql
--!include roles/roles.sql

--!include tables/settings.sql
--!include tables/installation.sql
--!include tables/modules.sql
--!include tables/endpoints.sql
--!include tables/outbox.sql
--!include tables/events.sql
--!include tables/delivery_queue.sql
--!include tables/delivery_attempts.sql
--!include tables/unrouted.sql

--!include functions/new_id.sql
--!include functions/new_secret.sql
--!include functions/wake_runner.sql
--!include functions/check_installation.sql

--!include functions/mask_escapes.sql
--!include functions/pick_columns.sql
--!include functions/capture_large.sql
--!include functions/own_function.sql
--!include functions/write_capture_functions.sql
--!include functions/check_module.sql
--!include functions/save_module.sql
--!include functions/attach_module.sql

--!include functions/check_endpoint.sql
--!include functions/subscribe_endpoint.sql
--!include functions/create_endpoint.sql
--!include functions/pause_endpoint.sql

--!include functions/read_change.sql
--!include functions/try_filter.sql
--!include functions/event_body.sql
--!include functions/route_changes.sql
--!include functions/claim_deliveries.sql
--!include functions/record_deliveries.sql
--!include functions/route_again.sql
--!include functions/replay_delivery.sql
--!include functions/maintain.sql

--!include tables/inbound_endpoints.sql
--!include tables/inbound_requests.sql

--!include functions/read_inbound_mapping.sql
--!include functions/check_inbound_mapping.sql
--!include functions/pause_inbound_endpoint.sql
--!include functions/write_inbound_functions.sql
--!include functions/grant_inbound.sql
--!include functions/create_inbound_endpoint.sql
--!include functions/rotate_inbound_token.sql
--!include functions/find_inbound_endpoint.sql
--!include functions/sealing_keys.sql
--!include functions/receive_inbound.sql
--!include functions/retry_inbound.sql
--!include functions/test_inbound_mapping.sql
--!include functions/maintain_inbound.sql

--!include views/row_secured_modules.sql
--!include views/webhook_deliveries.sql
--!include views/health.sql
--!include roles/grants.sql
--!include roles/inbound_grants.sql
