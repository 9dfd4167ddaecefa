--!include install/schema.sql
--!include install/internal/role_name.sql

--!include install/settings.sql
--!include install/installation.sql
--!include modules/modules.sql
--!include endpoints/endpoints.sql
--!include outbound/outbox.sql
--!include outbound/events.sql
--!include outbound/delivery_queue.sql
--!include outbound/delivery_attempts.sql
--!include outbound/unrouted.sql

--!include install/new_id.sql
--!include endpoints/internal/new_secret.sql
--!include operations/runner/wake_runner.sql
--!include install/internal/database_identity.sql
--!include install/runner/check_installation.sql
--!include install/resume_after_restore.sql

--!include outbound/1_capture/internal/mask_escapes.sql
--!include outbound/1_capture/internal/pick_columns.sql
--!include outbound/1_capture/internal/capture_large.sql
--!include install/internal/own_function.sql
--!include outbound/1_capture/internal/write_capture_functions.sql
--!include modules/internal/check_module.sql
--!include modules/internal/save_module.sql
--!include modules/attach_module.sql

--!include endpoints/internal/check_endpoint.sql
--!include endpoints/internal/subscribe_endpoint.sql
--!include endpoints/create_endpoint.sql
--!include endpoints/pause_endpoint.sql

--!include outbound/2_route/internal/read_change.sql
--!include outbound/2_route/internal/try_filter.sql
--!include outbound/2_route/internal/event_body.sql
--!include outbound/2_route/internal/route_changes.sql
--!include outbound/3_claim/runner/claim_deliveries.sql
--!include outbound/4_record/runner/record_deliveries.sql
--!include outbound/route_again.sql
--!include outbound/replay_delivery.sql
--!include operations/runner/maintain.sql

--!include inbound/inbound_endpoints.sql
--!include inbound/inbound_requests.sql

--!include inbound/internal/read_inbound_mapping.sql
--!include inbound/internal/check_inbound_mapping.sql
--!include inbound/pause_inbound_endpoint.sql
--!include inbound/internal/write_inbound_functions.sql
--!include inbound/internal/grant_inbound.sql
--!include inbound/create_inbound_endpoint.sql
--!include inbound/rotate_inbound_token.sql
--!include inbound/runner/find_inbound_endpoint.sql
--!include endpoints/runner/sealing_keys.sql
--!include inbound/runner/receive_inbound.sql
--!include inbound/retry_inbound.sql
--!include inbound/runner/next_inbound_retries.sql
--!include inbound/test_inbound_mapping.sql
--!include inbound/runner/maintain_inbound.sql

--!include modules/row_secured_modules.sql
--!include outbound/webhook_deliveries.sql
--!include install/internal/check_install.sql
--!include modules/internal/check_modules.sql
--!include endpoints/internal/check_endpoints.sql
--!include outbound/internal/check_outbound.sql
--!include inbound/internal/check_inbound.sql
--!include operations/health.sql
--!include install/internal/restore_rows.sql
--!include install/internal/designed_grants.sql
--!include install/internal/restore_grants.sql
--!include install/restored_grants.sql
--!include install/grants.sql
