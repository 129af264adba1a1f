package vendorsim

// vulnTemplates are the templates of a vulnerability finding. Attributes
// without a value are left out. The second has no output and its port is a
// string. The third is informational.
var vulnTemplates = []string{
	`{"asset":{"uuid":"<<asset_uuid>>","hostname":"<<host>>","fqdn":"<<host>>.example.test","ipv4":"<<ipv4>>","bios_uuid":"<<asset_uuid>>","mac_address":"00:00:5e:00:53:0a",` +
		`"netbios_name":"LAB","operating_system":["Example OS 12"],"device_type":"general-purpose","last_authenticated_results":"<<last>>","network_id":"00000000-0000-0000-0000-000000000000","tracked":true},` +
		`"output":"<<text>>",` +
		`"plugin":{"id":<<plugin>>,"name":"Viewer <1.3 Multiple Vulnerabilities (<<plugin>>)","family":"General","family_id":30,"risk_factor":"High","type":"local","has_patch":true,` +
		`"checks_for_default_account":false,"checks_for_malware":false,"cpe":["cpe:/a:example:viewer"],"cve":["<<cve>>"],"bid":[12345,67890],"cvss_base_score":9.3,` +
		`"cvss3_base_score":7.8,"cvss3_temporal_score":7,"cvss3_vector":{"access_complexity":"Low","access_vector":"Local","availability_impact":"High","confidentiality_impact":"High","integrity_impact":"High","raw":"AV:L/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H"},` +
		`"description":"The version of Viewer on the host is earlier than 1.3.","exploit_available":true,"exploitability_ease":"Exploits are available","exploited_by_malware":false,"in_the_news":false,"ms_bulletin":["MS30-001"],` +
		`"patch_publication_date":"2025-01-02T00:00:00Z","modification_date":"2025-02-01T00:00:00Z","publication_date":"2025-01-01T00:00:00Z","see_also":["https:\/\/example.test\/a"],"solution":"Install version 1.3.","synopsis":"A program on the host is outdated.",` +
		`"unsupported_by_vendor":false,"version":"1.4","vpr":{"score":6.7,"drivers":{"age_of_vuln":{"lower_bound":31,"upper_bound":60},"exploit_code_maturity":"UNPROVEN","cvss_impact_score_predicted":false,"cvss3_impact_score":5.9,"threat_intensity_last28":"VERY_LOW","threat_sources_last28":["No recorded events"],"product_coverage":"LOW"},"updated":"2025-02-01T00:00:00Z"},` +
		`"xrefs":[{"type":"CWE","id":"79"},{"type":"IAVA","id":"2030-A-0001"}]},` +
		`"port":{"port":<<port>>,"protocol":"TCP","service":"cifs"},` + vulnTail,
	`{"asset":{"uuid":"<<asset_uuid>>","hostname":"<<host>>","ipv4":"<<ipv4>>","operating_system":[],"device_type":"hypervisor","tracked":false},` +
		`"plugin":{"id":<<plugin>>,"name":"Tool detection (<<plugin>>)","family":"Misc.","risk_factor":"Medium","type":"remote","has_patch":false,"cve":["<<cve>>"],"cvss3_base_score":5,"description":"<<text>>",` +
		`"vpr":null,"version":"1.10","publication_date":"2024-05-06T00:00:00Z","synopsis":"A tool responds on the host."},` +
		`"port":{"port":"0","protocol":"UDP"},` + vulnTail,
	`{"asset":{"uuid":"<<asset_uuid>>","hostname":"<<ipv4>>","ipv4":"<<ipv4>>","ipv6":null,"operating_system":["Example Linux 9"],"device_type":"general-purpose","tracked":true},` +
		`"output":"<<text>>",` +
		`"plugin":{"id":<<plugin>>,"name":"Information (<<plugin>>)","family":"Settings","family_id":-1,"risk_factor":"None","type":"summary","has_patch":false,"bid":[],"see_also":[],"version":"$Revision: 1.7 $"},` +
		`"port":{"port":0,"protocol":"TCP"},` + vulnTail,
}

const vulnTail = `"scan":{"uuid":"<<scan>>","schedule_uuid":"template-<<asset_uuid>>","started_at":"<<last>>","completed_at":"<<last>>"},` +
	`"severity":"<<severity>>","severity_id":<<severity_id>>,"severity_default_id":<<severity_id>>,"severity_modification_type":"NONE",` +
	`"first_found":"<<first>>"<<fixed>>,"last_found":"<<last>>","state":"<<state>>","indexed":"<<indexed>>","source":"NESSUS","finding_id":"<<finding>>"<<edge>>}`

// assetTemplates are the templates of a flat asset. All members are present,
// even if they are null or empty.
var assetTemplates = []string{assetHead + `"has_plugin_results":true,"acr_score":"5","exposure_score":"310.5",` + assetTail,
	assetHead + `"has_plugin_results":null,"acr_score":null,"exposure_score":"0",` + assetTail}

const (
	assetHead = `{"id":"<<asset>>","has_agent":false,"is_licensed":<<licensed>>,"created_at":"<<created>>","updated_at":"<<updated>>","deleted_at":<<deleted>>,"deleted_by":null,` +
		`"terminated_at":<<terminated>>,"terminated_by":null,"first_seen":"<<created>>","last_seen":"<<updated>>","first_scan_time":"<<created>>","last_scan_time":"<<updated>>",`
	assetTail = `"last_authenticated_scan_date":null,"last_licensed_scan_date":"<<updated>>","last_scan_id":"<<scan>>","last_schedule_id":"template-<<asset>>",` +
		`"azure_vm_id":null,"azure_resource_id":null,"gcp_project_id":null,"gcp_zone":null,"gcp_instance_id":null,"aws_ec2_instance_ami_id":null,"aws_ec2_instance_id":null,"agent_uuid":null,"bios_uuid":null,` +
		`"network_id":"00000000-0000-0000-0000-000000000000","network_name":"Default","aws_owner_id":null,"aws_availability_zone":null,"aws_region":null,"aws_vpc_id":null,"aws_ec2_instance_group_name":null,` +
		`"aws_ec2_instance_state_name":null,"aws_ec2_instance_type":null,"aws_subnet_id":null,"aws_ec2_product_code":null,"aws_ec2_name":null,"mcafee_epo_guid":null,"mcafee_epo_agent_guid":null,"servicenow_sysid":null,` +
		`"bigfix_asset_id":null,"agent_names":[],"installed_software":["cpe:/a:example:viewer:1.2"],"ipv4s":["<<ipv4>>"],"ipv6s":[],"fqdns":["<<host>>.example.test"],"mac_addresses":["00:00:5e:00:53:0a"],"netbios_names":[],` +
		`"operating_systems":["Example OS 12"],"system_types":["general-purpose"],"hostnames":["<<host>>"],"ssh_fingerprints":[],"qualys_asset_ids":[],"qualys_host_ids":[],"manufacturer_tpm_ids":[],"symantec_ep_hardware_keys":[],` +
		`"sources":[{"name":"NESSUS_SCAN","first_seen":"<<created>>","last_seen":"<<updated>>"}],"tags":[{"uuid":"<<asset>>","key":"Site","value":"<<text>>","added_by":"<<asset>>","added_at":"<<created>>"}],` +
		`"network_interfaces":[{"name":"eth0","virtual":null,"aliased":null,"fqdns":[],"mac_addresses":["00:00:5e:00:53:0a"],"ipv4s":["<<ipv4>>"],"ipv6s":[]}],"open_ports":[]<<edge>>}`
)

// assetV2Templates are the templates of a nested asset. Empty members are left
// out.
var assetV2Templates = []string{
	`{"id":"<<asset>>","has_agent":true,"has_plugin_results":true,"is_licensed":<<licensed>>,"types":["<<type>>"],"operating_systems":["Example OS 12"],"installed_software":["cpe:/a:example:viewer:1.2"],` +
		`"sources":[{"name":"NESSUS_AGENT","first_seen":"<<created>>","last_seen":"<<updated>>"}],"tags":[{"uuid":"<<asset>>","key":"Site","value":"<<text>>","added_at":"<<created>>"}],` +
		`"scan":{"first_scan_time":"<<created>>","last_scan_time":"<<updated>>","last_scan_id":"<<scan>>"},` +
		`"network":{"network_id":"00000000-0000-0000-0000-000000000000","network_name":"Default","ipv4s":["<<ipv4>>"],"fqdns":["<<host>>.example.test"],"hostnames":["<<host>>"],"network_interfaces":[{"name":"eth0","ipv4s":["<<ipv4>>"]}]},` +
		`"timestamps":{"created_at":"<<created>>","updated_at":"<<updated>>"<<gone>>,"first_seen":"<<created>>","last_seen":"<<updated>>"},"ratings":{"acr":{"score":5},"aes":{"score":310}}<<edge>>}`,
}

// complianceTemplates are the templates of a host audit result. All members are
// present; those without a value are null.
var complianceTemplates = []string{
	`{"asset_uuid":"<<asset_uuid>>","first_seen":"<<first>>","last_seen":"<<last>>","audit_file":"EXAMPLE_Server_L1.audit","check_id":"<<check>>","check_name":"5.<<n>> Restrict the scheduler","check_info":"<<text>>",` +
		`"expected_value":"root:600","actual_value":"root:644","status":"<<result>>","check_error":null,"reference":[{"framework":"800-53","control":"AC-2"},{"framework":"CSF","control":"PR.AC-1"}],"see_also":"https://example.test/b",` +
		`"solution":"Set the mode to 600.","plugin_id":21157,"plugin_name":"Unix Compliance Checks","state":"<<state>>","description":"\"5.<<n>> Restrict the scheduler\" : [<<result>>]","compliance_benchmark_name":"Example Benchmark","compliance_benchmark_version":"2.0.0",` +
		`"compliance_control_id":"<<check>>","compliance_full_id":"<<check>>","compliance_functional_id":"<<check>>","compliance_informational_id":null,"synopsis":"Compliance checks","last_fixed":<<fixed_at>>,"last_observed":"<<last>>","metadata_id":null,` +
		`"indexed_at":"<<indexed>>","plugin_output":null,"uname_output":null,"asset":{"id":"<<asset_uuid>>","name":"<<host>>","ipv4_addresses":["<<ipv4>>"],"ipv6_addresses":null,"fqdns":[],"agent_uuid":null,"tags":[{"category":"Site","values":["Lab"]}]}<<edge>>}`,
}

// webAppBulkTemplates are the templates of a finding of the bulk export.
var webAppBulkTemplates = []string{
	`{"finding_id":"<<finding>>","url":"https://app-<<n>>.example.test/a?b=<<n>>&c=1","input_type":"form","input_name":"q","http_method":"GET","output":"<<text>>","proof":"","payload":"'\"><script>",` +
		`"state":"<<state>>","severity":"<<severity_upper>>","severity_id":<<severity_id>>,"severity_default_id":<<severity_id>>,"severity_modification_type":"NONE","first_found":"<<first>>"<<fixed>>,"last_found":"<<last>>","indexed_at":"<<indexed>>",` +
		`"plugin":{"id":<<plugin>>,"name":"Example header missing","family":"HTTP Security Header","cve":["<<cve>>"],"bid":["90001"],"xrefs":[{"type":"capec","id":["1","2"]}],"cvss2_vector":{},"cvss3_base_score":5.3,"owasp_2021":["A3"],"cwe":[693]},` +
		`"asset":{"uuid":"<<asset_uuid>>","fqdn":"app-<<n>>.example.test","ipv4s":["192.0.2.7"],"ipv4":"192.0.2.7"},"scan":{"uuid":"<<scan>>","completed_at":"<<last>>"}<<edge>>}`,
}

// webAppTemplates are the templates of a finding in a scan report.
var webAppTemplates = []string{
	`{"plugin_publication_date":"2024-05-06T00:00:00+00:00","plugin_modification_date":"2024-07-08T00:00:00+00:00","attachments":["https://cloud.tenable.com/was/v2/attachments/<<finding>>"],"plugin_id":<<plugin>>,` +
		`"cvssv3":null,"cvssv3_vector":null,"cvss":null,"cvss_vector":null,"cves":[],"risk_factor":"<<severity>>","uri":"https://app.example.test/page/<<n>>","name":"Example header missing","family":"HTTP Security Header","synopsis":"A header is missing.",` +
		`"description":"The response lacks a header.","solution":null,"see_also":["https://example.test/c"],"wasc":[],"cwe":[200],"owasp":[{"year":"2021","category":"A5"}],"bid":[],"xrefs":[{"xref_name":"CWE","xref_value":"200"}],` +
		`"input_name":null,"input_type":null,"proof":null,"request_headers":null,"response_headers":"HTTP\/1.1 200 OK\r\n","payload":null,"output":"<<text>>"<<edge>>}`,
}
