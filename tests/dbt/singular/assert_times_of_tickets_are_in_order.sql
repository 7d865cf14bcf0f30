-- What: a ticket is answered and solved after it was opened.
-- Why: times come from two desks in two formats; a wrong unit or zone would
--     show as a negative span.
-- A row: a ticket with a negative span.
-- To resolve: compare its moments with the raw record in staging.
select
    ticket_key,
    opened_at,
    first_response_at,
    solved_at
from {{ ref("fct_tickets") }}
where first_response_minutes < 0 or resolution_minutes < 0
