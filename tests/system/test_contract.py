"""The service follows its OpenAPI document, for valid and invalid requests."""

import re

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
    # No schema can express that texts are printable, and that a Request-URI is one.
    unreadable = answer.status_code == 400 and re.search("printable|base64|URI", answer.json()["error"])
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if unreadable else [])
