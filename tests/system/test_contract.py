"""The service follows its OpenAPI document, for valid and invalid requests."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from callsieve.serving.http import schema
from callsieve.serving.http.openapi import openapi

# Lines of JSON have no schema in OpenAPI 3.1; tests/serving/http/test_service.py tests the batch.
document = schemathesis.openapi.from_dict(openapi()).exclude(path=schema.BATCH)


@document.parametrize()
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_the_service_follows_its_openapi_document(case, service, keys):
    answer = case.call(base_url=service.url, headers={"Authorization": f"Bearer {keys['all']}"})
    # No schema can express that texts are printable.
    unprintable = answer.status_code == 400 and "printable" in answer.json()["error"]
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if unprintable else [])
