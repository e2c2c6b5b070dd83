"""The service does what its OpenAPI document says, for whatever fits the document and for what does not."""

import pytest
import schemathesis
from callsieve.serving.schema import openapi
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

import services

document = schemathesis.openapi.from_dict(openapi())


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    keys = services.files(folder)
    with services.Process(folder) as running:
        yield running, keys["all"]
        assert running.process.poll() is None
        assert "Traceback" not in running.said()


@document.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_contract(case, service):
    running, key = service
    answer = case.call(base_url=running.url, headers={"Authorization": f"Bearer {key}"})
    # That texts are printable is a rule that no schema can say.
    told = answer.status_code == 400 and "printable" in answer.json()["error"]
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if told else [])
