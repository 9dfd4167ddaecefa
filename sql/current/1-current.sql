--!include modules/internal/check_module.sql
drop function collecta.check_endpoint(text, text[], text[], text, text, text, jsonb);
drop function collecta.check_endpoint_limits(int, interval, int, int);
--!include endpoints/internal/check_endpoint.sql
--!include endpoints/internal/new_secret.sql
--!include endpoints/create_endpoint.sql
drop function collecta.capture_inputs(int);
--!include outbound/1_capture/internal/capture_parts.sql
--!include outbound/1_capture/internal/write_capture_functions.sql
--!include modules/internal/resolve_modules.sql
--!include modules/internal/save_module.sql
--!include modules/internal/limit_lock_waits.sql
--!include modules/internal/attach_relation.sql
--!include modules/attach_module.sql
--!include install/resume_after_restore.sql
--!include outbound/2_route/internal/event_body.sql
--!include outbound/2_route/internal/read_change.sql
--!include outbound/2_route/internal/recipients.sql
--!include outbound/2_route/internal/route_changes.sql
--!include outbound/3_claim/runner/claim_deliveries.sql
drop function collecta.check_inbound_mapping(text, jsonb, text[], text);
--!include inbound/internal/check_inbound_mapping.sql
--!include inbound/internal/read_inbound_mapping.sql
--!include inbound/internal/save_inbound_endpoint.sql
--!include inbound/internal/inbound_cast_problem.sql
--!include inbound/internal/inbound_templates.sql
--!include inbound/internal/write_inbound_functions.sql
--!include inbound/internal/mend_inbound.sql
--!include inbound/internal/grant_inbound.sql
--!include inbound/internal/check_inbound.sql
--!include inbound/internal/write_inbound.sql
--!include inbound/create_inbound_endpoint.sql
--!include inbound/test_inbound_mapping.sql
--!include install/pin_settings.sql
--!include install/grants.sql
