"""The service does what its OpenAPI document says, for whatever fits the document and for what does not."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from callsieve.serving.http.schema import openapi

document = schemathesis.openapi.from_dict(openapi())


@document.parametrize()
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_contract(case, service, keys):
    answer = case.call(base_url=service.url, headers={"Authorization": f"Bearer {keys['all']}"})
    # That texts are printable is a rule that no schema can say.
    told = answer.status_code == 400 and "printable" in answer.json()["error"]
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if told else [])
